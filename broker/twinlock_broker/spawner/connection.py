"""The socket to the spawner: datagrams in and out, file descriptors out, and who is at the other end."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Sequence
from pathlib import Path

from twinlock_common.peercred import peer_of
from twinlock_wire import wire

from twinlock_broker.errors import Fatal


class SpawnerSocket:
    """A connection. Every method may raise `OSError`; what breaks the protocol is a `wire.WireError`."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._sending = asyncio.Lock()
        self.peer = peer_of(sock)
        """The spawner's process: if it is root's, identities are mapped."""

    @classmethod
    async def connect(cls, path: Path) -> "SpawnerSocket":
        """Connect to the spawner at `path`. Raise `Fatal` (77) if somebody else listens there."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            await asyncio.get_running_loop().sock_connect(sock, str(path))
            connection = cls(sock)
            if connection.peer.uid not in (0, os.geteuid()):
                raise Fatal(
                    os.EX_NOPERM,
                    f"{path}: the process there has uid {connection.peer.uid}, which is neither root (a spawner for "
                    "all users) nor the broker's own (same-user mode): is --spawner-socket right?",
                )
        except BaseException:
            sock.close()
            raise
        return connection

    async def receive(self) -> wire.Reply:
        """Return the next reply. Raise `ConnectionError` if the spawner hung up."""
        data = await asyncio.get_running_loop().sock_recv(self._sock, wire.MAX_DATAGRAM + 1)
        if not data:
            raise ConnectionResetError("the spawner hung up")
        reply: wire.Reply = wire.decode(data, wire.REPLIES)
        return reply

    async def send(self, request: wire.Request, fds: Sequence[int] = ()) -> None:
        """Send a request, with file descriptors, which stay the caller's to close."""
        data = wire.encode(request)
        async with self._sending:
            while True:
                try:
                    socket.send_fds(self._sock, [data], list(fds))
                    return
                except BlockingIOError:
                    await self._writable()

    def hang_up(self) -> None:
        """Let `receive` come to its end, wherever it waits."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection; the spawner keeps its children."""
        self._sock.close()

    async def _writable(self) -> None:
        loop = asyncio.get_running_loop()
        writable: asyncio.Future[None] = loop.create_future()
        loop.add_writer(self._sock, _set, writable)
        try:
            await writable
        finally:
            loop.remove_writer(self._sock)


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
