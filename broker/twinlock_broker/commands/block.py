"""``twinlock block``: no starts for an account any more."""

import argparse
import os
import pwd
from typing import Any

from twinlock_broker.command_line import add_command
from twinlock_broker.commands.ask import add_socket, ask, complete_user
from twinlock_broker.commands.stop import stop_all
from twinlock_broker.errors import Fatal

_EXAMPLES = """\
  sudo twinlock block ada --reason "compromised key, call the help desk"
  sudo twinlock block ada --stop

From now on no endpoint is started for the account, even after a restart of the broker or the host. Everyone who maps
to it gets an error with the reason. Running endpoints continue and accept tasks, unless --stop ends them. `twinlock
status` lists the blocked accounts and who blocked them; `twinlock unblock` lifts a block. Blocking an account again
replaces the reason. The account is the local one, as in `twinlock status`, not the Globus identity.
exit codes: 0 blocked; 67 this host has no such account; 69 no broker there, start it first; 73 it can't write its
  state; 77 ask as root
"""


def add(commands: Any) -> argparse.ArgumentParser:
    """Add the subcommand to `commands` and return its parser."""
    made = add_command(commands, "block", "start no more endpoints for an account", _EXAMPLES)
    user = made.add_argument("user", metavar="NAME", help="the local account")
    user.completer = complete_user  # type: ignore[attr-defined]
    made.add_argument(
        "--reason", metavar="TEXT", default="no reason was given", help="what the user is told (default: %(default)s)"
    )
    made.add_argument("--stop", action="store_true", help="end the account's running endpoints")
    made.add_argument("--force", action="store_true", help="block a name that isn't an account of this host yet")
    add_socket(made)
    return made


def run(given: argparse.Namespace) -> int:
    """Block the account and return the exit code."""
    user = _account(given.user, given.force)
    ask(given.socket, {"request": "block", "user": user, "reason": given.reason})
    print(f"{user} is blocked")
    rows = ask(given.socket, {"request": "status"})["endpoints"]
    running = [row for row in rows if row["user"] == user]
    if given.stop:
        stop_all(given.socket, running)
    elif running:
        print(f"still running: {', '.join(row['id'] for row in running)} (to end them: twinlock stop --user {user})")
    return os.EX_OK


def _account(name: str, force: bool) -> str:
    """Return the account's name as the broker knows it, in whatever spelling it was given. Raise `Fatal` (67)."""
    try:
        return pwd.getpwnam(name).pw_name
    except KeyError:
        if force:
            return name
        text = f"this host has no account {name!r}; name a local account, or add --force to block it in advance"
        raise Fatal(os.EX_NOUSER, text) from None
