"""``twinlock unblock``: the end of an account's block."""

import argparse
import os
from typing import Any

from twinlock_broker.command_line import add_command
from twinlock_broker.commands.ask import add_socket, ask, complete_blocked
from twinlock_broker.errors import Fatal

_EXAMPLES = """\
  sudo twinlock unblock ada

The account's next submission starts an endpoint again.
exit codes: 0 unblocked; 65 it wasn't blocked; 69 no broker there; 73 it can't write its state; 77 ask as root
"""


def add(commands: Any) -> argparse.ArgumentParser:
    """Add the subcommand to `commands` and return its parser."""
    made = add_command(commands, "unblock", "start endpoints for an account again", _EXAMPLES)
    user = made.add_argument("user", metavar="NAME", help="the local account, as `twinlock status` shows it")
    user.completer = complete_blocked  # type: ignore[attr-defined]
    add_socket(made)
    return made


def run(given: argparse.Namespace) -> int:
    """Unblock the account and return the exit code."""
    if not ask(given.socket, {"request": "unblock", "user": given.user})["done"]:
        blocked = ", ".join(ask(given.socket, {"request": "status"})["blocked"]) or "none"
        raise Fatal(os.EX_DATAERR, f"{given.user!r} isn't blocked; blocked accounts: {blocked}")
    print(f"{given.user} is no longer blocked")
    return os.EX_OK
