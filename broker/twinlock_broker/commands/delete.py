"""``twinlock delete``: the removal of an endpoint, from the service and from this host."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twinlock_broker.command_line import add_command, add_state, find_folder
from twinlock_broker.commands import removal
from twinlock_broker.compute import registration
from twinlock_broker.compute.login import Login, installed_client, load_login
from twinlock_broker.config import placed
from twinlock_broker.config.folder import Folder, read_folder
from twinlock_broker.config.keys import BROKER_KEYS
from twinlock_broker.config.lock import locked
from twinlock_broker.errors import Fatal
from twinlock_broker.privileges import as_owner
from twinlock_broker.spawner.table import running

_SPAWNER = next(key.default for key in BROKER_KEYS if key.name == "spawner_socket")
_EXAMPLES = f"""\
  sudo systemctl disable --now twinlock-broker
  sudo twinlock delete --state /var/lib/twinlock /etc/twinlock/endpoint

It has the service forget the endpoint, whose unfinished tasks then fail, and removes what belongs to it on this host:
{removal.DESCRIPTION}. Other files in DIR, the login (`twinlock logout`), logs and the folders in users' homes stay.
It logs in as the broker does: as the client in the environment's GLOBUS_COMPUTE_CLIENT_ID and ..._SECRET, else as the
person who ran `twinlock login`. A deleted uuid never comes back.
It refuses, even with --force, while a broker uses the state folder or a user endpoint is running. `twinlock drain` ends
user endpoints beforehand; so does stopping twinlock-spawner.
exit codes: 0 deleted; 66 no such endpoint, or none with a uuid; 69 the service refuses, nothing was changed; 73 a file
  can't be removed; 75 the broker or a user endpoint runs, or the service can't be reached; 77 no login, or not
  confirmed; 78 its config.yaml can't be used
"""


def add(commands: Any) -> argparse.ArgumentParser:
    """Add the subcommand to `commands` and return its parser."""
    made = add_command(commands, "delete", "delete an endpoint from the service and from this host", _EXAMPLES)
    made.add_argument("folder", metavar="DIR", help="endpoint folder")
    add_state(made)
    made.add_argument("--yes", action="store_true", help="don't ask for confirmation")
    made.add_argument(
        "--force",
        action="store_true",
        help="delete it even if it seems to be online, was never registered, or the service doesn't delete it",
    )
    made.add_argument(
        "--spawner-socket",
        type=Path,
        default=_SPAWNER,
        metavar="PATH",
        help="the spawner's socket, to ask what is running (default %(default)s)",
    )
    return made


def run(given: argparse.Namespace) -> int:
    """Delete the endpoint and return the exit code."""
    path = find_folder(given.folder).absolute()
    place = placed.find(path, given.state)
    state = place.state
    if not (path / "config.yaml").is_file():
        raise Fatal(os.EX_NOINPUT, f"{path}: not an endpoint's folder, it has no config.yaml; nothing was changed")
    folder = read_folder(path)
    removal.check(folder)
    client = installed_client(place.client) if place.client else None  # a file of root's, as whom nothing is asked
    with as_owner(state), locked(state):
        endpoint_id = _uuid(folder, state, given.force)
        if not given.yes:
            _confirm(folder, endpoint_id)
        if endpoint_id is not None:
            _refuse_running(given.spawner_socket, endpoint_id)
            _delete(folder, endpoint_id, lambda: client or load_login(state), given.force)
        removal.remove_state(state)
    left = removal.remove_folder(folder)
    print(f"{endpoint_id or path.name}: deleted")
    if left:
        print(f"left in {path}, to be removed if nobody needs it: {', '.join(left)}")
    return os.EX_OK


def _uuid(folder: Folder, state: Path, force: bool) -> str | None:
    endpoint_id = folder.endpoint_id(state)
    if endpoint_id is None and not force:
        raise Fatal(
            os.EX_NOINPUT,
            f"the endpoint in {folder.path} has no uuid: name the broker's state folder with --state, or add --force "
            "if it was never registered",
        )
    return endpoint_id


def _confirm(folder: Folder, endpoint_id: str | None) -> None:
    print(f"Delete endpoint {endpoint_id or '(never registered)'} with {folder.path}? [y/N] ", end="", flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Fatal(os.EX_NOPERM, "not confirmed; nothing was changed")


def _refuse_running(spawner: Path, endpoint_id: str) -> None:
    found = running(spawner, endpoint_id)
    if found:
        names = ", ".join(f"{child.id} of {child.user}" for child in found)
        raise Fatal(
            os.EX_TEMPFAIL,
            f"user endpoints are still running: {names}; start the broker and use twinlock drain, or stop "
            "twinlock-spawner, which ends them",
        )


def _delete(folder: Folder, endpoint_id: str, find_login: Callable[[], Login], force: bool) -> None:
    try:
        login = find_login()
        if not force and registration.online(folder, endpoint_id, login):
            raise Fatal(
                os.EX_TEMPFAIL, "the service says that the endpoint is online: stop its broker, wherever that runs"
            )
        registration.delete(folder, endpoint_id, login)
    except Fatal as error:
        if not force:
            text = f"{error}. Nothing was changed; --force removes the files on this host anyway"
            raise Fatal(error.status, text) from error
        print(f"twinlock: the service still knows the endpoint: {error}", file=sys.stderr)
