"""What a user endpoint prints before it opens its own log: the reason that its user is told when the start fails."""

import asyncio
import contextlib
import os
import re
import time
from pathlib import Path

KEPT = 4096
"""Bytes that are kept, the last ones."""

_CHUNK = 65536
_MOST = 16
"""Chunks that are read at the end, as much as a pipe can hold: whoever kept it open can't hold us up by writing on."""

_PAUSE = 0.05
"""Seconds until more is read of an endpoint that writes as fast as we read."""

# The endpoint's own text, over which no type of ours watches: a traceback of it may show an address with its login.
_LOGIN = re.compile(r"://[^\s/@]+@")
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")


class Output:
    """A named pipe at `path`, which is there for as long as anybody may write to it: a broker that starts over opens it
    again (`made` is False). The child gets `writer`; what it writes is read as it comes, so that it rarely blocks.

    `writer` is open for reading too, so that a child can write while there is no broker. Otherwise a broker that is
    killed would end all endpoints that are just starting: they would write to a pipe that nobody reads (SIGPIPE).
    """

    def __init__(self, path: Path, made: bool = True) -> None:
        """Raises OSError; for a new one only where this process has no file descriptors left."""
        self._path = path
        if made:
            self._reader, self.writer = _make(path)
        else:
            self._reader, self.writer = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), -1
        self._tail = b""
        self._open, self._full = True, False
        self.closed_at: float | None = None
        """time.monotonic() of when the last writer closed it: the endpoint writes its own log, or has ended."""
        self._listen()

    def reopen(self) -> bool:
        """Have a writer again, for a start that an earlier broker may have made already. False where it is closed."""
        if self._open:
            self.writer = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        return self._open

    def close_writer(self) -> None:
        """Close our own copy of the writing end, once the child has its."""
        os.close(self.writer)

    def finish(self) -> str:
        """Read what is still there and close the pipe; the last text, without logins and what terminals act upon."""
        for _ in range(_MOST):
            if not (self._open and self._read()):
                break
        self._close()
        text = _LOGIN.sub("://<secret>@", _ESCAPES.sub("", self._tail.decode("utf-8", "replace")))
        return "".join(character for character in text if character.isprintable() or character in "\n\t").strip()

    def _listen(self) -> None:
        if self._open:
            asyncio.get_running_loop().add_reader(self._reader, self._readable)

    def _readable(self) -> None:
        if self._read() and self._full:
            asyncio.get_running_loop().remove_reader(self._reader)
            asyncio.get_running_loop().call_later(_PAUSE, self._listen)

    def _read(self) -> bool:
        with contextlib.suppress(BlockingIOError):
            data = os.read(self._reader, _CHUNK)
            self._tail = (self._tail + data)[-KEPT:]
            self._full = len(data) == _CHUNK
            if data:
                return True
            self.closed_at = time.monotonic()
            self._close()
        return False

    def _close(self) -> None:
        if self._open:
            self._open = False
            asyncio.get_running_loop().remove_reader(self._reader)
            os.close(self._reader)
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)


def _make(path: Path) -> tuple[int, int]:
    """Both ends of a new pipe at `path`, or of one without a name where the disk is full."""
    try:
        path.unlink(missing_ok=True)
        os.mkfifo(path, 0o600)
    except OSError:
        reader, writer = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(reader, False)
        return reader, writer
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return reader, os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        os.close(reader)
        raise
