"""``twinlock my log``: the log of one of the user's endpoints. It is in the user's home, so no broker is asked."""

import argparse
import os
import re
import sys
from pathlib import Path
from typing import Any, NoReturn

from twinlock_broker.command_line import add_command, endpoints_folder
from twinlock_broker.errors import Fatal

_LINES = 50
_FOLDER = re.compile(r"uep\.[0-9a-f-]{36}\.([0-9a-f-]{36})")
_EXAMPLES = """\
  twinlock my log
  twinlock my log 7b1f --lines 500
  twinlock my log 7b1f --follow

The log stays when the endpoint has ended. It is endpoint.log in a folder of $GLOBUS_COMPUTE_USER_DIR, else of
~/.globus_compute.
"""


def add(acts: Any) -> argparse.ArgumentParser:
    """Add the action to `acts` and return its parser."""
    made = add_command(acts, "log", "show the log of one of your endpoints", _EXAMPLES)
    text = "its uuid, or the beginning of it (default: that whose log was written last)"
    chosen = made.add_argument("endpoint", metavar="UEP", nargs="?", default="", help=text)
    chosen.completer = _complete  # type: ignore[attr-defined]
    made.add_argument("-n", "--lines", type=int, default=_LINES, help=f"how many of its last lines (default {_LINES})")
    made.add_argument("-f", "--follow", action="store_true", help="go on with what is added, until Ctrl-C")
    return made


def run(given: argparse.Namespace) -> NoReturn:
    """Become tail(1). Raise `Fatal` (65, 66)."""
    path = _newest(given.endpoint.lower())
    print(f"==> {path}", file=sys.stderr, flush=True)
    follow = ["-F"] if given.follow else []
    argv = ["tail", "-n", str(max(0, given.lines)), *follow, "--", str(path)]
    os.execvp(argv[0], argv)  # noqa: S606 - there is nothing in it for a shell


def _newest(begin: str) -> Path:
    """Return the log of the endpoint whose uuid begins so, the newest if several do."""
    found = {path: written for path in _logs(begin) if (written := _written(path)) is not None}
    if not found:
        wanted = f"whose uuid begins with {begin!r}" if begin else "of yours"
        raise Fatal(os.EX_DATAERR, f"{endpoints_folder()}: there is no log of an endpoint {wanted}")
    return max(found, key=found.__getitem__)


def _logs(begin: str) -> list[Path]:
    base = endpoints_folder()
    try:
        folders = [
            path for path in base.iterdir() if (form := _FOLDER.fullmatch(path.name)) and form[1].startswith(begin)
        ]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise Fatal(os.EX_NOINPUT, f"{base}: can't be read: {error.strerror}") from error
    return [folder / "endpoint.log" for folder in folders]


def _written(path: Path) -> float | None:
    """Return when the log was written last; None if there is none."""
    try:
        return path.stat().st_mtime
    except OSError:
        return None


def _complete(prefix: str, **_: Any) -> list[str]:
    """Return the uuids of endpoints that have a folder, for tab completion."""
    try:
        return sorted(path.parent.name.rpartition(".")[2] for path in _logs(prefix))
    except Fatal:
        return []
