"""The broker's side of `reader.py`: it never reads, opens or closes a pipe that a user may be writing to."""

import asyncio
import contextlib
import errno
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from twinlock_broker.endpoints import reader

MOST_STUCK = 8
"""Processes that may be waiting, for no one knows how long, to read what an account's endpoints printed."""

UNREAD = "unread"
"""The stage of a refusal for an account with that many."""

_COMMAND = (sys.executable, "-I", "-S", reader.__file__)
_ANSWER_LIMIT = 10.0  # seconds for two system calls of a process that never has to wait


class Readers:
    """The processes that read pipes. The first one starts when it is needed, and again if it was killed."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._orders: socket.socket | None = None
        self._stuck: Counter[str] = Counter()

    def stuck(self, user: str) -> int:
        """Return how many of the account's outputs can't be read although their endpoints have ended."""
        return self._stuck[user]

    async def make(self, path: Path) -> tuple[socket.socket, int]:
        """Make a pipe at `path`, or one without a name if the disk is full.

        The writing end is open for reading too, so that a child can write while there is no broker. Otherwise a broker
        that is killed would end all endpoints that are just starting: they would write to a pipe that nobody reads
        (SIGPIPE). It is the only open file by which anybody will write, so that a close here is never its last while
        they do.

        Returns:
            A socket that gives what is written into the pipe, and the pipe's writing end.

        Raises:
            OSError: this process has no file descriptors left, or no process can be started.
        """
        with contextlib.ExitStack() as failed:
            failed.callback(remove, path)
            pipe, writer = _make(path)
            failed.callback(os.close, writer)
            try:
                source = self._order(path, pipe)
            finally:
                os.close(pipe)
            failed.callback(source.close)
            await _wait_until_ready(source)
            failed.pop_all()
        return source, writer

    def resume(self, path: Path) -> socket.socket:
        """Return the socket for a pipe that an earlier broker made; call `wait_until_open` next. Raise `OSError`."""
        return self._order(path)

    def wait_until_open(self, source: socket.socket, deadline: float) -> bool:
        """Return whether the pipe is open before `deadline` (time.monotonic()). Blocks."""
        source.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            return source.recv(len(reader.READY)) == reader.READY
        except TimeoutError:
            return False
        finally:
            source.setblocking(False)

    def leave(self, source: socket.socket, user: str) -> None:
        """Wait no longer for a process that doesn't end; it counts as stuck until it does."""
        self._stuck[user] += 1
        asyncio.get_running_loop().add_reader(source, self._drop, source, user)

    def _drop(self, source: socket.socket, user: str) -> None:
        with contextlib.suppress(ConnectionResetError):
            if source.recv(reader.CHUNK):
                return
        asyncio.get_running_loop().remove_reader(source)
        source.close()
        self._stuck[user] -= 1

    def _order(self, path: Path, *pipe: int) -> socket.socket:
        ours, theirs = socket.socketpair()
        with theirs, contextlib.ExitStack() as failed:
            failed.callback(ours.close)
            try:
                socket.send_fds(self._started(), [os.fsencode(path)], [theirs.fileno(), *pipe])
            except TimeoutError as error:
                raise _no_answer() from error
            failed.pop_all()
        ours.setblocking(False)
        return ours

    def _started(self) -> socket.socket:
        if self._orders is None or self._process is None or self._process.poll() is not None:
            if self._orders is not None:
                self._orders.close()
            self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self._orders.settimeout(_ANSWER_LIMIT)
            with theirs:  # its only stream: a process that can't end must not hold any other of ours
                nothing = subprocess.DEVNULL
                streams: dict[str, Any] = {"stdin": theirs, "stdout": nothing, "stderr": nothing}
                self._process = subprocess.Popen(_COMMAND, env={}, cwd="/", start_new_session=True, **streams)
        return self._orders


async def _wait_until_ready(source: socket.socket) -> None:
    try:
        async with asyncio.timeout(_ANSWER_LIMIT):
            answer = await asyncio.get_running_loop().sock_recv(source, len(reader.READY))
    except TimeoutError as error:
        raise _no_answer() from error
    if answer != reader.READY:
        raise OSError(errno.EAGAIN, "no process can be started that reads the output")


def _no_answer() -> OSError:
    return OSError(errno.ETIMEDOUT, "the process that reads outputs doesn't answer")


def remove(path: Path) -> None:
    """Remove the name of a pipe, if it has one."""
    with contextlib.suppress(OSError):
        path.unlink()


def _make(path: Path) -> tuple[int, int]:
    """Return both ends of a new pipe."""
    try:
        os.mkfifo(path, 0o600)
    except OSError:
        pipe, writer = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(pipe, False)
        return pipe, writer
    pipe = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return pipe, os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        os.close(pipe)
        raise
