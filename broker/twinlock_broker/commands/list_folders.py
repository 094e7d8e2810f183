"""``twinlock list``: the manager endpoints whose folders are on this host."""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from twinlock_broker.command_line import add_command, endpoints_folder
from twinlock_broker.config import placed
from twinlock_broker.config.folder import Folder
from twinlock_broker.errors import Fatal

_PATTERNS = ("*", "instances/*/endpoint")
_EXAMPLES = """\
  twinlock list
  twinlock list /etc/twinlock

The uuid comes from the broker's state folder, which broker.yaml beside the endpoint's folder names, else from the
endpoint's own folder. ? stands for one that can't be read: the state folder is the broker's own, so run this as root.
exit codes: 0 done; 66 no such folder, or a file can't be read; 78 an endpoint.json is broken
"""


def add(commands: Any) -> argparse.ArgumentParser:
    """Add the subcommand to `commands` and return its parser."""
    made = add_command(
        commands,
        "list",
        "list the endpoint folders on this host",
        _EXAMPLES,
        description="List the endpoint folders in DIR: uuid (- before the first start), and folder.",
    )
    made.add_argument(
        "folder",
        metavar="DIR",
        nargs="?",
        type=Path,
        default=endpoints_folder(),
        help="the folder that endpoints are in (default $GLOBUS_COMPUTE_USER_DIR, else ~/.globus_compute)",
    )
    return made


def run(given: argparse.Namespace) -> int:
    """Print the folders and return the exit code."""
    try:
        os.scandir(given.folder).close()
        found = sorted({path for pattern in _PATTERNS for path in given.folder.glob(pattern)})
    except OSError as error:
        raise Fatal(
            os.EX_NOINPUT, f"{given.folder}: {error.strerror}; name the folder that endpoints are in"
        ) from error
    status = os.EX_OK
    for folder in found:
        try:
            known = _uuid(folder) if (folder / "config.yaml").exists() else ""
        except PermissionError:
            print(f"twinlock: {folder}: this account may not look into it; run this as root", file=sys.stderr)
            known, status = "", os.EX_NOINPUT
        except Fatal as error:
            print(f"twinlock: {error}", file=sys.stderr)
            known, status = "?", error.status
        if known:
            print(f"{known:<36}  {folder}")
    return status


def _uuid(folder: Path) -> str:
    """Return the uuid by which it is registered, "-" if it isn't. Raise `Fatal` (66, 78) if that can't be told."""
    return Folder(folder, {}, "").endpoint_id(placed.find(folder, environ={}).state) or "-"
