"""The other side of the broker's admin socket, and of the users' one."""

import argparse
import contextlib
import json
import os
import socket
from pathlib import Path
from typing import Any

from twinlock_broker.commands import answers
from twinlock_broker.errors import Fatal

DEFAULT = Path("/run/twinlock-broker/admin.sock")
ADMINISTRATORS = "only root and the broker's own account may ask; try sudo"
"""Whom the broker answers on that socket."""

LIMIT = 70.0
"""Seconds for an answer: a stop may have to wait for a start, and the start for its turn."""

_MAX_ANSWER = 1 << 24
"""Bytes of an answer: some ten thousand endpoints."""


def add_socket(parser: argparse.ArgumentParser) -> None:
    """Add the option that names the broker's admin socket."""
    parser.add_argument(
        "--socket",
        type=Path,
        default=DEFAULT,
        metavar="PATH",
        help=f"the broker's admin socket, admin.sock in its runtime_dir (default {DEFAULT})",
    )


def ask(path: Path, request: dict[str, Any], who: str = ADMINISTRATORS, limit: float = LIMIT) -> dict[str, Any]:
    """Send a request to the broker and return its answer, of the shape that `answers` has for this request.

    `who` may ask is said to somebody who may not. The answer is waited for `limit` seconds.

    Raises:
        Fatal: 69, there is no broker; 73, the broker couldn't write its state; 75, there is no answer; 76, it isn't a
            broker's answer; 77, this account may not ask.
    """
    line = _exchange(path, json.dumps(request).encode() + b"\n", who, limit)
    if not line:
        raise Fatal(os.EX_NOPERM, f"{path}: the broker hung up; {who}")
    try:
        answer = answers.read(request["request"], line)
    except ValueError as error:
        text = f"{path}: not a broker's answer: {error}; update broker and command together"
        raise Fatal(os.EX_PROTOCOL, text) from error
    if "failed" in answer:
        raise Fatal(os.EX_CANTCREAT, f"{path}: {answer['failed']}")
    return answer


def _exchange(path: Path, line: bytes, who: str, limit: float) -> bytes:
    """Send a line and return the line that comes back."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(limit)
            sock.connect(os.fspath(path))
            sock.sendall(line)
            with sock.makefile("rb") as answer:
                return answer.readline(_MAX_ANSWER)
    except PermissionError as error:
        raise Fatal(os.EX_NOPERM, f"{path}: {who}") from error
    except TimeoutError as error:
        raise Fatal(os.EX_TEMPFAIL, f"{path}: the broker didn't answer within {limit:.0f} s; see its log") from error
    except OSError as error:
        text = f"{path}: no broker there ({error.strerror or error}); is it running, and is this its socket?"
        raise Fatal(os.EX_UNAVAILABLE, text) from error


def complete_endpoint(prefix: str, parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    """Return the uuids of the user endpoints, for tab completion."""
    return [row["id"] for row in _status(parsed_args).get("endpoints", ()) if row["id"].startswith(prefix)]


def complete_user(prefix: str, parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    """Return the accounts that have endpoints, for tab completion."""
    users = {row["user"] for row in _status(parsed_args).get("endpoints", ())}
    return sorted(user for user in users if user.startswith(prefix))


def complete_blocked(prefix: str, parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    """Return the accounts that are blocked, for tab completion."""
    return [user for user in _status(parsed_args).get("blocked", ()) if user.startswith(prefix)]


def _status(given: argparse.Namespace) -> dict[str, Any]:
    with contextlib.suppress(Fatal):
        return ask(given.socket, {"request": "status"})
    return {}
