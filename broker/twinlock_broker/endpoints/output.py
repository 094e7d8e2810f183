"""What a user endpoint prints before it opens its own log: the reason that its user is told when the start fails."""

import asyncio
import contextlib
import logging
import re
import secrets
import socket
import time
from collections.abc import Iterable
from pathlib import Path

from twinlock_broker.endpoints.reader import CHUNK, FINISH
from twinlock_broker.endpoints.readers import Readers, remove

KEPT = 4096
"""Bytes that are kept of the output: the last ones."""

FINISH_LIMIT = 5.0
"""Seconds for output that is still to come after the end of the endpoint."""

OPEN_LIMIT = 5.0
"""Seconds for the pipes of an earlier broker to be open again, all together."""

_NAME = ".output"
_PAUSE = 0.05
"""Seconds until more is read from an endpoint that writes as fast as the broker reads."""

# `Secret` doesn't protect the endpoint's own text: a traceback in it may show an address with its login.
_LOGIN = re.compile(r"://[^\s/@]+@")
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")

log = logging.getLogger(__name__)


def left_by_others(folder: Path) -> dict[str, list[Path]]:
    """Return the pipes in `folder` that an earlier broker made, by the ids of their endpoints."""
    found: dict[str, list[Path]] = {}
    for path in folder.glob(f"*{_NAME}"):
        endpoint_id, _, _ = path.name.partition(".")
        found.setdefault(endpoint_id, []).append(path)
    return found


class Output:
    """What the endpoint `endpoint_id` of the account `user` prints, read from named pipes in `folder`.

    The pipes are there for as long as anybody may write to them. What is written is read as it comes, so that an
    endpoint rarely blocks.

    Each start has a pipe of its own. There are two only if a restarted broker repeats a start that the one before it
    may have made already.
    """

    def __init__(self, readers: Readers, folder: Path, endpoint_id: str, user: str) -> None:
        self._readers = readers
        self._folder = folder
        self._id = endpoint_id
        self._user = user
        self._paths: list[Path] = []
        self._sources: set[socket.socket] = set()
        self._all_read = asyncio.Event()
        self._tail = b""
        self.closed_at: float | None = None
        """time.monotonic() of when the last writer closed it: the endpoint writes its own log, or has ended."""

    @property
    def open(self) -> bool:
        """Whether something may still come."""
        return bool(self._sources)

    @property
    def text(self) -> str:
        """The last of what came so far, without logins and what terminals act upon."""
        text = _LOGIN.sub("://<secret>@", _ESCAPES.sub("", self._tail.decode("utf-8", "replace")))
        return "".join(character for character in text if character.isprintable() or character in "\n\t").strip()

    async def writer(self) -> int:
        """Make a pipe and return its end for a child, see `Readers.make`."""
        path = self._folder / f"{self._id}.{secrets.token_hex(4)}{_NAME}"
        source, writer = await self._readers.make(path)
        self._add(source, path)
        self._listen(source)
        return writer

    def resume(self, paths: Iterable[Path]) -> None:
        """Read also from the pipes at `paths`, which an earlier broker made. Call `wait_until_open` next."""
        for path in paths:
            with contextlib.suppress(OSError):  # no process can be started
                self._add(self._readers.resume(path), path)

    def wait_until_open(self, deadline: float) -> None:
        """Wait until `deadline` (time.monotonic()) for these pipes to be open. Blocks.

        What is in a pipe that nobody has open is lost with its last writer. A pipe that isn't open then is given up.
        """
        for source in list(self._sources):
            if self._readers.wait_until_open(source, deadline):
                self._listen(source)
            else:
                self._give_up(source)

    async def finish(self) -> None:
        """Wait for what is still to come, and close the pipes.

        It takes `FINISH_LIMIT` if a process of the user's keeps everybody from reading, see `reader.py`.
        """
        for source in self._sources:
            with contextlib.suppress(OSError):  # it has ended
                source.send(FINISH)
        if self._sources:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FINISH_LIMIT):
                    await self._all_read.wait()
        for source in list(self._sources):
            self._give_up(source)

    def _add(self, source: socket.socket, path: Path) -> None:
        self._paths.append(path)
        self._sources.add(source)
        self._all_read.clear()
        self.closed_at = None

    def _listen(self, source: socket.socket) -> None:
        if source in self._sources:
            asyncio.get_running_loop().add_reader(source, self._readable, source)

    def _readable(self, source: socket.socket) -> None:
        data = b""
        with contextlib.suppress(ConnectionResetError):  # the process ended before it read what the broker sent
            data = source.recv(CHUNK)
        self._tail = (self._tail + data)[-KEPT:]
        if not data:
            self._forget(source)
            source.close()
        elif len(data) == CHUNK:
            asyncio.get_running_loop().remove_reader(source)
            asyncio.get_running_loop().call_later(_PAUSE, self._listen, source)

    def _give_up(self, source: socket.socket) -> None:
        self._forget(source)
        self._readers.leave(source, self._user)
        log.warning(
            "its output couldn't be read to the end: a process of the account %s may prevent it",
            self._user,
            extra={"endpoint": self._id, "user": self._user},
        )

    def _forget(self, source: socket.socket) -> None:
        asyncio.get_running_loop().remove_reader(source)
        self._sources.discard(source)
        if not self._sources:
            self.closed_at = time.monotonic()
            self._all_read.set()
            for path in self._paths:
                remove(path)
