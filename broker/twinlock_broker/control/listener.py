"""A Unix stream socket whose clients are known by the kernel's word (SO_PEERCRED, unix(7)), and JSON lines on it."""

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twinlock_broker.control.door import Door, Visitor
from twinlock_broker.errors import Fatal
from twinlock_broker.unix_socket import listening_socket

MAX_LINE = 1 << 16
"""Bytes of a line; a client that sends a longer one is disconnected."""

MAX_UNREAD = 1 << 16
"""Bytes that may wait to be read by a client; one that gets more before it has read them is disconnected."""

_LAST_WORDS_LIMIT = 5.0  # seconds for a client to read what was sent before the end
_BACKLOG = 1024
_MAX_PATH = 107  # bytes, by the size of sun_path


@dataclass(frozen=True, slots=True)
class Caller:
    """A client that has connected."""

    visitor: Visitor
    """Its process and account, as the kernel noted them when it connected."""
    reader: asyncio.StreamReader
    """The lines from it."""
    writer: asyncio.StreamWriter
    """The lines to it."""

    @property
    def pid(self) -> int:
        """The client's process."""
        return self.visitor.pid

    @property
    def uid(self) -> int:
        """The client's account."""
        return self.visitor.uid

    async def receive(self, limit: float | None = None) -> dict[str, Any] | None:
        """Return the next message, None at the end.

        Raise `TimeoutError` if none comes within `limit` seconds, `ValueError` for what is no JSON object in one line.
        """
        async with asyncio.timeout(limit):
            line = await self.reader.readline()
        if not line:
            return None
        try:
            message = json.loads(line)
        except RecursionError as error:
            raise ValueError("nested too deeply") from error
        if not isinstance(message, dict):
            raise ValueError("not a JSON object")
        await asyncio.sleep(0)  # a client that floods has to share the loop with the others
        return message

    def send(self, message: dict[str, Any]) -> None:
        """Send a message without waiting; a client that doesn't read is disconnected."""
        if self.writer.transport.get_write_buffer_size() > MAX_UNREAD:
            self.hang_up()
        elif not self.writer.is_closing():
            self.writer.write(json.dumps(message).encode() + b"\n")

    def hang_up(self) -> None:
        """End the connection at once; the client won't get what it hasn't read yet."""
        self.writer.transport.abort()

    async def finish(self) -> None:
        """End the connection when the client has read everything; it gets some seconds for that."""
        self.writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_LAST_WORDS_LIMIT):
                await self.writer.wait_closed()
        self.hang_up()


@contextlib.asynccontextmanager
async def listening(path: Path, mode: int, serve: Callable[[Caller], Awaitable[None]]) -> AsyncIterator[None]:
    """Have `serve` called with each client of a socket at `path`. Raise `Fatal` (73, 78) if it can't be made."""

    async def visited(visitor: Visitor) -> None:
        reader, writer = await asyncio.open_unix_connection(sock=visitor.socket, limit=MAX_LINE)
        caller = Caller(visitor, reader, writer)
        try:
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                await serve(caller)
                await caller.finish()
        finally:
            caller.hang_up()

    with _bind(path, mode) as listener:
        door = Door(path.name, listener, visited)
        opened = asyncio.create_task(door.run())
        try:
            yield
        finally:
            opened.cancel()
            await asyncio.wait((opened,))
            _remove(path)


def _bind(path: Path, mode: int) -> socket.socket:
    if len(os.fsencode(path)) > _MAX_PATH:
        raise Fatal(os.EX_CONFIG, f"{path}: too long for a socket (at most {_MAX_PATH} bytes); set runtime_dir")
    try:
        return listening_socket(path, mode, _BACKLOG)
    except OSError as error:
        raise Fatal(
            os.EX_CANTCREAT, f"{path}: {error.strerror or error}; set runtime_dir to a folder of the broker's"
        ) from error


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
