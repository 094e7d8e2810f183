"""The common parts of the command lines of Twinlock's programs."""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

from twinlock_common.site_files import load_yaml

from twinlock_broker.config import placed
from twinlock_broker.errors import Fatal

USAGE_ERROR = 100


class Parser(argparse.ArgumentParser):
    """An argparse parser with the exit code that usage errors have in all of Twinlock's commands."""

    def error(self, message: str) -> NoReturn:
        """Print the usage and the reason, and exit."""
        self.print_usage(sys.stderr)
        self.exit(USAGE_ERROR, f"{self.prog}: {message}\n")


def add_command(
    commands: Any, name: str, summary: str, epilog: str, description: str | None = None
) -> argparse.ArgumentParser:
    """Add a subcommand to `commands`, an object of `add_subparsers`, and return its parser.

    `summary` is its line in the list of commands and, as a sentence, its description, if that isn't given. `epilog` is
    printed as it is written.
    """
    made: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=description or f"{summary[0].upper()}{summary[1:]}.",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return made


def read_text(name: str) -> str:
    """Return the text of the file `name`, or of standard input for ``-``. Raise `Fatal` (66)."""
    try:
        return sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it isn't UTF-8"
        raise Fatal(os.EX_NOINPUT, f"{name}: can't be read: {reason}") from error


def read_json(name: str) -> Any:
    """Return the JSON value in the file `name`. Raise `Fatal` (65, 66)."""
    try:
        return json.loads(read_text(name))
    except (ValueError, RecursionError) as error:
        raise Fatal(os.EX_DATAERR, f"{name}: not valid JSON: {error}") from error


def read_object(name: str) -> dict[str, Any]:
    """Return the JSON object in the file `name`. Raise `Fatal` (65, 66)."""
    return _mapping(name, read_json(name), "a JSON object")


def read_yaml_mapping(name: str) -> dict[str, Any]:
    """Return the YAML mapping in the file `name`. Raise `Fatal` (65, 66)."""
    try:
        found = load_yaml(read_text(name)) or {}
    except ValueError as error:
        raise Fatal(os.EX_DATAERR, f"{name}: not valid YAML: {error}") from error
    return _mapping(name, found, "a YAML mapping")


def find_folder(name: str) -> Path:
    """Return an endpoint folder by its path or, as with the agent, by its name in $GLOBUS_COMPUTE_USER_DIR.

    Raises:
        Fatal: 64, the name is empty, as a variable of a script may be.
    """
    if not name:
        raise Fatal(os.EX_USAGE, "which folder? The name that was given is empty")
    return Path(name) if "/" in name or Path(name).is_dir() else endpoints_folder() / name


def add_state(parser: argparse.ArgumentParser) -> None:
    """Add the option that names the broker's state folder."""
    parser.add_argument(
        "--state",
        type=Path,
        metavar="DIR",
        help="the broker's state folder (default $STATE_DIRECTORY, else that of the broker.yaml naming DIR, else DIR)",
    )


def state_folder(given: argparse.Namespace) -> Path:
    """Return the state folder: by the option, by systemd, by the broker's file, else the endpoint's own folder."""
    folder = find_folder(given.folder) if given.folder else Path.cwd()
    return placed.find(folder, given.state).state


def endpoints_folder() -> Path:
    """Return where the agent keeps endpoint folders: $GLOBUS_COMPUTE_USER_DIR, else ~/.globus_compute."""
    return Path(os.environ.get("GLOBUS_COMPUTE_USER_DIR") or Path.home() / ".globus_compute")


def _mapping(name: str, value: Any, kind: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Fatal(os.EX_DATAERR, f"{name}: has to be {kind}")
    return value
