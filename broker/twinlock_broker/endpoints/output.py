"""What a user endpoint prints before it opens its own log: the reason that its user is told when the start fails."""

import asyncio
import contextlib
import fcntl
import os
import re
import time

KEPT = 4096
"""Bytes that are kept, the last ones."""

_CHUNK = 65536
# The endpoint's own text, over which no type of ours watches: a traceback of it may show an address with its login.
_LOGIN = re.compile(r"://[^\s/@]+@")
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")


class Output:
    """A pipe. The child gets `writer`; what it writes is read as it comes, so that it never blocks."""

    def __init__(self) -> None:
        self._reader, self.writer = os.pipe2(os.O_CLOEXEC)
        fcntl.fcntl(self._reader, fcntl.F_SETFL, os.O_NONBLOCK)
        self._tail = b""
        self._open = True
        self.closed_at: float | None = None
        """time.monotonic() of when the last writer closed it: the endpoint writes its own log, or has ended."""
        asyncio.get_running_loop().add_reader(self._reader, self._read)

    def close_writer(self) -> None:
        """Close our own copy of the writing end, once the child has its."""
        os.close(self.writer)

    def finish(self) -> str:
        """Read what is still there and close the pipe; the last text, without logins and what terminals act upon."""
        while self._open and self._read():
            pass
        self._close()
        text = _LOGIN.sub("://<secret>@", _ESCAPES.sub("", self._tail.decode("utf-8", "replace")))
        return "".join(character for character in text if character.isprintable() or character in "\n\t").strip()

    def _read(self) -> bool:
        with contextlib.suppress(BlockingIOError):
            data = os.read(self._reader, _CHUNK)
            self._tail = (self._tail + data)[-KEPT:]
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
