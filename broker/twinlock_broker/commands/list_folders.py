"""``twinlock list``: the manager endpoints whose folders are on this host."""

import argparse
import json
import os
from pathlib import Path
from typing import Any

from twinlock_broker.command_line import endpoints_folder
from twinlock_broker.errors import Fatal

_EXAMPLES = """\
  twinlock list
  twinlock list /etc/twinlock

exit codes: 0 done; 66 no such folder
"""


def add(commands: Any) -> argparse.ArgumentParser:
    """The subcommand's part of the command line."""
    made: argparse.ArgumentParser = commands.add_parser(
        "list",
        help="list the endpoint folders on this host",
        description="List the endpoint folders in DIR: uuid (- before the first start), and folder.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "folder",
        metavar="DIR",
        nargs="?",
        type=Path,
        default=endpoints_folder(),
        help="where endpoints' folders are (default $GLOBUS_COMPUTE_USER_DIR, else ~/.globus_compute)",
    )
    return made


def run(given: argparse.Namespace) -> int:
    """Print the folders; the exit code."""
    try:
        found = sorted(path.parent for path in given.folder.glob("*/config.yaml"))
        given.folder.stat()
    except OSError as error:
        raise Fatal(
            os.EX_NOINPUT, f"{given.folder}: {error.strerror}; name the folder that endpoints are in"
        ) from error
    for folder in found:
        print(f"{_uuid(folder):<36}  {folder}")
    return os.EX_OK


def _uuid(folder: Path) -> str:
    try:
        return str(json.loads((folder / "endpoint.json").read_text())["endpoint_id"])
    except (OSError, ValueError, KeyError, TypeError):
        return "-"
