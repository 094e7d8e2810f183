"""``twinlock logout``: the end of a person's login."""

import argparse
import contextlib
import os
from pathlib import Path
from typing import Any

import globus_sdk

from twinlock_broker.command_line import add_command, add_state, find_folder, state_folder
from twinlock_broker.compute import registration
from twinlock_broker.compute.login import log_out, token_file
from twinlock_broker.config.folder import read_folder
from twinlock_broker.config.lock import locked
from twinlock_broker.errors import Fatal
from twinlock_broker.privileges import as_owner

_EXAMPLES = """\
  sudo twinlock logout --state /var/lib/twinlock

It has Globus Auth revoke the tokens of `twinlock login`, and removes them. To remove a client's id and secret, delete
the files that hold them; with the packages they are in /etc/twinlock/client.
With --force, a broker that uses the login continues until it has to register again, and then ends with 77.
exit codes: 0 logged out; 64 neither DIR nor --state; 66 no such folder; 73 the tokens can't be read or removed; 75 the
  broker runs, or Globus Auth can't be reached: nothing was changed; 77 nobody is logged in, or Globus Auth refuses
"""


def add(commands: Any) -> argparse.ArgumentParser:
    """Add the subcommand to `commands` and return its parser."""
    made = add_command(
        commands,
        "logout",
        "revoke and remove the tokens of twinlock login",
        _EXAMPLES,
        description="Revoke the tokens of the person who logged in, and remove them.",
    )
    made.add_argument(
        "folder", metavar="DIR", nargs="?", help="endpoint folder; needed if its config.yaml names an `environment`"
    )
    made.add_argument("--force", action="store_true", help="log out even while the broker is running")
    add_state(made)
    return made


def run(given: argparse.Namespace) -> int:
    """Log out and return the exit code."""
    environment = registration.environment(read_folder(find_folder(given.folder))) if given.folder else None
    state = _state(given)
    path = token_file(state)
    with as_owner(state):
        if not path.exists():
            raise Fatal(os.EX_NOPERM, f"{path}: nobody is logged in there; name the broker's state folder with --state")
        with contextlib.nullcontext() if given.force else locked(state):
            _log_out(path, environment)
    print(f"logged out; {path} was removed")
    return os.EX_OK


def _state(given: argparse.Namespace) -> Path:
    if not (given.folder or given.state or os.environ.get("STATE_DIRECTORY")):
        raise Fatal(os.EX_USAGE, "whose login? Name the broker's state folder with --state, or the endpoint's folder")
    return state_folder(given)


def _log_out(path: Path, environment: str | None) -> None:
    again = "nothing was changed, run twinlock logout again"
    try:
        log_out(path, environment)
    except globus_sdk.AuthAPIError as error:
        said = f"{error.http_status} {error.message or error.text}"[:500]
        raise Fatal(os.EX_NOPERM, f"Globus Auth didn't revoke the tokens ({said}); {again}") from error
    except globus_sdk.NetworkError as error:
        raise Fatal(os.EX_TEMPFAIL, f"Globus Auth can't be reached to revoke the tokens: {error}; {again}") from error
