"""Files in users' homes, read by processes that run as the account that they belong to.

Root opens nothing in a home: a link there may lead to another user's file, a pipe or a file system may never answer, a
file may have no end. Such a process is treated as the account's, which could attach to it (ptrace(2)): it gets no
terminal, no variables and no keys of this login, little memory and processor time, and nothing of it is waited for.
"""

import contextlib
import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from twinlock_broker import as_account, keyring
from twinlock_broker.errors import Fatal
from twinlock_broker.printable import printable

_MEMORY = 64 << 20
_SECONDS = 60
"""Bytes of memory, and seconds of processor time, of a process."""

_CHUNK = 1 << 16
_LONGEST_REASON = 200
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class UnreadableError(Exception):
    """Files that can't be read; the text says why."""


def folder_of(user: str, manager: str, endpoint: str, user_dir: str) -> Path:
    """Return the folder of an endpoint. Raise `Fatal` (67, 76). Blocks.

    Args:
        user: the account.
        manager: the manager endpoint's uuid.
        endpoint: the user endpoint's uuid.
        user_dir: its GLOBUS_COMPUTE_USER_DIR; empty if it has none.
    """
    if not (_UUID.fullmatch(manager) and _UUID.fullmatch(endpoint)):
        raise Fatal(os.EX_PROTOCOL, f"{manager!r} or {endpoint!r} isn't a uuid; update broker and command together")
    home = Path(as_account.entry(user).pw_dir)
    base = Path(user_dir) if user_dir.startswith("/") else home / ".globus_compute"
    return base / f"uep.{manager}.{endpoint}"


def start(user: str, argv: Sequence[str]) -> "subprocess.Popen[bytes]":
    """Start a process of the account whose output, standard error included, can be read. Raise `Fatal`. Blocks.

    Raises:
        Fatal: 67, there is no such account, or it is root; 71, no process can be started; 77, only root may do so.
    """
    row = as_account.entry(user)
    if row.pw_uid == 0:
        raise Fatal(os.EX_NOUSER, f"{user} is root, and nobody's endpoint runs as root; its files aren't opened")
    keyring.leave()
    limits = ("prlimit", f"--as={_MEMORY}", "--core=0", f"--cpu={_SECONDS}")
    try:
        return subprocess.Popen(
            (*limits, *argv),
            bufsize=0,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
            cwd="/",
            start_new_session=True,
            **as_account.identity(row),
        )
    except OSError as error:
        raise Fatal(os.EX_OSERR, f"prlimit: can't be started for {user}: {error.strerror}") from error


def kill(process: "subprocess.Popen[bytes]") -> None:
    """Kill a process of `start` and give up its output. Its end, for which a file system may keep it, isn't awaited."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    assert process.stdout is not None
    process.stdout.close()


def read_end(user: str, paths: Sequence[Path], most: int, limit: float) -> bytes:
    """Return the last `most` bytes of each of these files, one after the other; those that don't exist are empty.

    What comes is the account's word, whatever the files have.

    Raises:
        UnreadableError: they can't be read, or not within `limit` seconds.
        Fatal: as for `start`.
    """
    script = 'for file; do [ ! -e "$file" ] || tail -c "$0" -- "$file" || exit 1; done'
    process = start(user, ("sh", "-c", script, str(most), *map(str, paths)))
    try:
        data = _collect(process, len(paths) * most, limit)
        if process.wait(limit) != 0:
            raise UnreadableError(printable(data[-_LONGEST_REASON:].decode("utf-8", "replace").strip()))
        return data
    except (TimeoutError, subprocess.TimeoutExpired):
        raise UnreadableError(f"its file system didn't answer within {limit:.0f} s") from None
    finally:
        kill(process)


def _collect(process: "subprocess.Popen[bytes]", most: int, limit: float) -> bytes:
    """Return what a process prints, at most so many bytes. Raise `TimeoutError` if that isn't all of it in time."""
    assert process.stdout is not None
    deadline = time.monotonic() + limit
    data = b""
    while len(data) <= most:
        readable, _, _ = select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))
        if not readable:
            raise TimeoutError
        chunk = process.stdout.read(_CHUNK)
        if not chunk:
            break
        data += chunk
    return data[:most]
