"""A user endpoint's log as it grows, read by a process that runs as the endpoint's account, see `account_files`."""

import asyncio
import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from twinlock_common.offload import in_thread

from twinlock_broker import account_files
from twinlock_broker.printable import printable

LINES = 200
"""Lines of the log that are there at the beginning."""

LONGEST = 1000
"""Characters of a line."""

_CHUNK = 1 << 16
_PAUSE = 0.2
"""Seconds between two reads of a chunk, so that who writes without end doesn't keep a processor busy."""


def path_of(user: str, manager: str, endpoint: str, user_dir: str) -> Path:
    """Return where the log of an endpoint is; arguments and errors are those of `account_files.folder_of`. Blocks."""
    return account_files.folder_of(user, manager, endpoint, user_dir) / "endpoint.log"


def follow(user: str, path: Path) -> "subprocess.Popen[bytes]":
    """Start a process that prints the log's last lines, and then what is added. Errors: see `account_files.start`."""
    return account_files.start(user, ("tail", "-n", str(LINES), "-F", "--", str(path)))


class LogReader:
    """The log of an endpoint of the account `user`: `show` is called with each of its lines, made printable."""

    def __init__(self, user: str, show: Callable[[Sequence[str]], None]) -> None:
        self._user = user
        self._show = show
        self._process: subprocess.Popen[bytes] | None = None
        self._rest = b""
        self._closed = False

    async def open(self, manager: str, endpoint: str, user_dir: str) -> Path:
        """Begin to read, and return the log's path; the arguments are those of `path_of`. Raise `Fatal`."""
        path = await in_thread(lambda: path_of(self._user, manager, endpoint, user_dir))
        self._process = await in_thread(lambda: follow(self._user, path))
        if self._closed:
            self.close()
        else:
            os.set_blocking(self._stream.fileno(), False)
            self._listen()
        return path

    def close(self) -> None:
        """Read no more. The process is killed; its end, for which a file system may keep it waiting, isn't awaited."""
        self._closed = True
        process, self._process = self._process, None
        if process is None or process.stdout is None:
            return
        asyncio.get_running_loop().remove_reader(process.stdout)
        account_files.kill(process)
        in_thread(process.wait)

    @property
    def _stream(self) -> IO[bytes]:
        assert self._process is not None
        assert self._process.stdout is not None
        return self._process.stdout

    def _listen(self) -> None:
        if self._process is not None:
            asyncio.get_running_loop().add_reader(self._stream, self._readable)

    def _readable(self) -> None:
        asyncio.get_running_loop().remove_reader(self._stream)
        data = self._stream.read(_CHUNK)
        if data:
            *whole, rest = (self._rest + data).split(b"\n")
            self._rest = rest[-4 * LONGEST :]
            self._show([printable(line.decode("utf-8", "replace"), LONGEST) for line in whole])
            asyncio.get_running_loop().call_later(_PAUSE, self._listen)
        elif data is None:  # there was nothing after all
            self._listen()
        else:
            self._show([f"nobody reads the log any more: {self._user} may have ended the process that does"])
