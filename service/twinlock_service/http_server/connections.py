"""HTTP connections on their way to aiohttp: how many there may be, and how long one may make no progress."""

from __future__ import annotations

import asyncio
import resource
import ssl
from asyncio.sslproto import SSLProtocol
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

from aiohttp import web

from twinlock_service.limits.connections import MOST_OF_PEER, Connections
from twinlock_service.limits.tcp_peer import tcp_peer

MOST = 2_000
"""HTTP connections at a time, where the service's limit of descriptors has room for them."""

RESERVED_DESCRIPTORS = 100
"""Descriptors for all else: the database, RabbitMQ, connections that are being accepted."""

HEAD_SECONDS = 30.0
"""How long a request's head may take, and how long an idle connection is kept."""

STALL_SECONDS = 30.0
"""How long a client may take nothing of an answer."""


class Runner(web.AppRunner):
    """An application's runner that enforces these limits."""

    def __init__(self, app: web.Application, shutdown_timeout: float) -> None:
        super().__init__(
            app,
            access_log=None,
            shutdown_timeout=shutdown_timeout,
            keepalive_timeout=HEAD_SECONDS,
            auto_decompress=False,
        )
        self._limited: Connections[Connection] = Connections(_room(), MOST_OF_PEER)

    @property
    def server(self) -> Callable[[], Connection] | None:  # type: ignore[override]  # all that a site calls it for
        """Makes the protocol of a new connection."""
        inner = super().server
        return None if inner is None else lambda: Connection(inner(), self._limited)


@contextmanager
def serving(request: web.Request) -> Iterator[None]:
    """Keep the request's connection from being closed to make room, while the block runs."""
    connection = request.transport and request.transport.get_protocol()
    if not isinstance(connection, Connection):
        yield
        return
    connection.busy = True
    try:
        yield
    finally:
        connection.busy = False


class Connection(asyncio.Protocol):
    """A connection on its way to aiohttp's protocol, watched."""

    def __init__(self, inner: asyncio.Protocol, connections: Connections[Connection]) -> None:
        self.busy = False
        """A request is being answered."""
        self._inner = inner
        self._connections = connections
        self._transport: asyncio.Transport | None = None
        self._stalled: asyncio.TimerHandle | None = None

    def accepted(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection from now on; where there is TLS, that is before the handshake."""
        self._transport = cast(asyncio.Transport, transport)
        self._connections.opened(self, tcp_peer(transport))

    def gone(self) -> None:
        """Count the connection no longer: it is closed."""
        self._connections.closed(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Pass the connection on to aiohttp; with TLS this comes after the handshake."""
        if self._transport is None:
            self.accepted(transport)
        self._transport = cast(asyncio.Transport, transport)
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Pass the data on to aiohttp, and note that the connection isn't silent."""
        self._connections.active(self)
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        """Pass on to aiohttp that the client sends no more."""
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        """Watch the answer from now on: more of it waits than the client has taken."""
        self._inner.pause_writing()
        self._watch_answer(self._waiting())

    def resume_writing(self) -> None:
        """Stop watching the answer: the client has taken most of it."""
        self._connections.active(self)
        self._unwatch_answer()
        self._inner.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        """Pass the end of the connection on to aiohttp, and count the connection no longer."""
        self._unwatch_answer()
        self.gone()
        self._inner.connection_lost(error)

    def abort(self) -> None:
        """Close the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def _waiting(self) -> int:
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def _watch_answer(self, waiting: int) -> None:
        loop = asyncio.get_running_loop()
        self._stalled = loop.call_later(STALL_SECONDS, self._check_answer, waiting)

    def _check_answer(self, before: int) -> None:
        waiting = self._waiting()
        if waiting >= before:
            self.abort()
        else:
            self._watch_answer(waiting)

    def _unwatch_answer(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None


class Secured(SSLProtocol):
    """The TLS of a connection, which counts from its first moment, and has `HEAD_SECONDS` to agree on everything."""

    def __init__(self, connection: Connection, tls: ssl.SSLContext) -> None:
        nobody: asyncio.Future[None] | None = None
        super().__init__(
            asyncio.get_running_loop(),
            connection,
            tls,
            nobody,  # type: ignore[arg-type]  # who would wait for it
            server_side=True,
            ssl_handshake_timeout=HEAD_SECONDS,  # type: ignore[arg-type]  # of seconds there are parts
        )
        self._connection = connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection before the handshake begins."""
        self._connection.accepted(transport)
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Count the connection no longer, even if the handshake never ended."""
        super().connection_lost(exc)
        self._connection.gone()


def _room() -> int:
    """Return how many connections the limit of file descriptors leaves room for."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if limit == resource.RLIM_INFINITY else max(1, min(MOST, limit - RESERVED_DESCRIPTORS))
