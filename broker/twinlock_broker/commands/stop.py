"""``twinlock stop``: the end of a user endpoint, or of all of an account."""

import argparse
import os
from pathlib import Path
from typing import Any

from twinlock_broker.command_line import add_command
from twinlock_broker.commands.ask import add_socket, ask, complete_endpoint, complete_user
from twinlock_broker.errors import Fatal

_LEAST = 4
_EXAMPLES = """\
  sudo twinlock stop 7b1f2f6e-0000-4000-8000-000000000001
  sudo twinlock stop 7b1f
  sudo twinlock stop --user ada

The endpoint gets SIGTERM and, after the policy's stop_grace, SIGKILL, with all that it started on this host. Its user
is told, and the next submission starts another; `twinlock block` prevents that.
exit codes: 0 it is ending; 65 there is none, or several match; 69 no broker there; 75 no answer;
  76 not a broker's answer; 77 ask as root
"""


def add(commands: Any) -> argparse.ArgumentParser:
    """Add the subcommand to `commands` and return its parser."""
    made = add_command(commands, "stop", "end a user endpoint, or all of a user's", _EXAMPLES)
    which = made.add_mutually_exclusive_group(required=True)
    chosen = which.add_argument("endpoint", metavar="UEP", nargs="?", help="its uuid, or the beginning of it")
    chosen.completer = complete_endpoint  # type: ignore[attr-defined]
    user = which.add_argument("--user", metavar="NAME", help="end all endpoints of this account")
    user.completer = complete_user  # type: ignore[attr-defined]
    add_socket(made)
    return made


def run(given: argparse.Namespace) -> int:
    """Stop the endpoints and return the exit code."""
    found = ask(given.socket, {"request": "status"})["endpoints"]
    chosen = _of_user(found, given.user) if given.user is not None else by_uuid(found, given.endpoint)
    if not stop_all(given.socket, chosen):
        raise Fatal(os.EX_DATAERR, f"{chosen[0]['id']} has just ended by itself")
    return os.EX_OK


def stop_all(broker: Path, rows: list[dict[str, Any]]) -> int:
    """End the endpoints in these rows of the status, and say so. Return how many hadn't ended by themselves."""
    stopped = [row for row in rows if ask(broker, {"request": "stop", "endpoint": row["id"]})["stopped"]]
    for row in stopped:
        print(f"{row['id']} of {row['user']} is ending")
    return len(stopped)


def _of_user(found: list[dict[str, Any]], user: str) -> list[dict[str, Any]]:
    chosen = [row for row in found if row["user"] == user]
    if not chosen:
        users = ", ".join(sorted({row["user"] for row in found})) or "nobody"
        raise Fatal(os.EX_DATAERR, f"{user!r} has no endpoint; there are endpoints of: {users}")
    return chosen


def by_uuid(found: list[dict[str, Any]], begin: str) -> list[dict[str, Any]]:
    """Return the one row whose uuid begins so, as a list. Raise `Fatal` (65)."""
    chosen = [row for row in found if row["id"].startswith(begin.lower())]
    there = ", ".join(row["id"] for row in chosen or found) or "none"
    if len(begin) < _LEAST:
        raise Fatal(os.EX_DATAERR, f"{begin!r} is too short, give at least {_LEAST} characters; there are: {there}")
    if len(chosen) != 1:
        many = "more than one endpoint's uuid begins" if chosen else "no endpoint's uuid begins"
        raise Fatal(os.EX_DATAERR, f"{many} with {begin!r}; there are: {there}")
    return chosen
