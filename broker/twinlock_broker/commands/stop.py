"""``twinlock stop``: end a user endpoint."""

import argparse
import os
from typing import Any

from twinlock_broker.commands.ask import add_socket, ask, complete_endpoint
from twinlock_broker.errors import Fatal

_LEAST = 4
_EXAMPLES = """\
  sudo twinlock stop 7b1f2f6e-0000-4000-8000-000000000001
  sudo twinlock stop 7b1f

The endpoint gets SIGTERM and, after the policy's stop_grace, SIGKILL, with all that it started on this host. Its user
is told, and the next submission starts another.
exit codes: 0 it is ending; 65 there is none, or several begin so; 69 no broker there; 75 no answer;
  76 not a broker's answer; 77 ask as root
"""


def add(commands: Any) -> argparse.ArgumentParser:
    """The subcommand's part of the command line."""
    made: argparse.ArgumentParser = commands.add_parser(
        "stop",
        help="end a user endpoint",
        description="End a user endpoint.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    chosen = made.add_argument("endpoint", metavar="UEP", help="its uuid, or how that begins")
    chosen.completer = complete_endpoint  # type: ignore[attr-defined]
    add_socket(made)
    return made


def run(given: argparse.Namespace) -> int:
    """Stop the endpoint; the exit code."""
    found = ask(given.socket, {"request": "status"})["endpoints"]
    chosen = [row for row in found if row["id"].startswith(given.endpoint.lower())]
    if len(chosen) != 1 or len(given.endpoint) < _LEAST:
        there = ", ".join(row["id"] for row in chosen or found) or "none"
        many = "more than one endpoint's uuid begins" if len(chosen) > 1 else "no endpoint's uuid begins"
        raise Fatal(os.EX_DATAERR, f"{many} with {given.endpoint!r} (at least {_LEAST} characters); there are: {there}")
    stopped = ask(given.socket, {"request": "stop", "endpoint": chosen[0]["id"]})["stopped"]
    if not stopped:
        raise Fatal(os.EX_DATAERR, f"{chosen[0]['id']} has just ended by itself")
    print(f"{chosen[0]['id']} of {chosen[0]['user']} is ending")
    return os.EX_OK
