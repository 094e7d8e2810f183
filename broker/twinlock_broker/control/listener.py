"""A Unix stream socket whose clients are known by the kernel's word (SO_PEERCRED, unix(7)), and JSON lines on it."""

import asyncio
import contextlib
import json
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twinlock_broker.errors import Fatal

MAX_LINE = 1 << 20
"""Bytes of a line, with which a connection ends that sends a longer one, and that may wait to be read by a peer."""

_UCRED = struct.Struct("3i")
_MAX_PATH = 107  # bytes, by the size of sun_path


@dataclass(frozen=True, slots=True)
class Caller:
    """A client: its process and account, which the kernel noted when it connected, and the lines to and from it."""

    pid: int
    uid: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def receive(self) -> dict[str, Any] | None:
        """The next message, None at the end. Raises ValueError for what is no JSON object in one line."""
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
        if self.writer.transport.get_write_buffer_size() > MAX_LINE:
            self.writer.transport.abort()
        elif not self.writer.is_closing():
            self.writer.write(json.dumps(message).encode() + b"\n")

    def hang_up(self) -> None:
        """End the connection."""
        self.writer.close()


@contextlib.asynccontextmanager
async def listening(path: Path, mode: int, serve: Callable[[Caller], Awaitable[None]]) -> AsyncIterator[None]:
    """Have `serve` called with each client of a socket at `path`. Raises `Fatal` (73, 78) where it can't be made."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sock = writer.get_extra_info("socket")
        pid, uid, _ = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        caller = Caller(pid, uid, reader, writer)
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            await serve(caller)
        caller.hang_up()

    server = await asyncio.start_unix_server(connected, sock=_bind(path, mode), limit=MAX_LINE)
    try:
        yield
    finally:
        server.close()
        _remove(path)


def _bind(path: Path, mode: int) -> socket.socket:
    if len(os.fsencode(path)) > _MAX_PATH:
        raise Fatal(os.EX_CONFIG, f"{path}: too long for a socket (at most {_MAX_PATH} bytes); set runtime_dir")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        _remove(path)  # of a broker that was killed; it is ours, in a folder that only we write
        sock.bind(os.fspath(path))
        path.chmod(mode)
    except OSError as error:
        sock.close()
        raise Fatal(
            os.EX_CANTCREAT, f"{path}: {error.strerror}; set runtime_dir to a folder of the broker's"
        ) from error
    return sock


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
