"""RabbitMQ's port under the numbers that the hosted service has.

`Executor(amqp_port=443)` and an endpoint's `amqp_port: 443` put that port in place of the one that they are told. The
service listens on these ports as well, where they are free and it may, and passes on what comes to its private node.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager

from twinlock_common.log_ration import LogRation

from twinlock_service.errors import StartError
from twinlock_service.limits.connections import MOST_OF_PEER, Connections
from twinlock_service.limits.tcp_peer import tcp_peer

log = logging.getLogger(__name__)

HOSTED_PORTS = (443, 5671, 5672)
"""What the hosted service listens on; the SDK's documentation names them."""

MOST = 2_000
"""Connections at a time through all of these ports."""

CONNECT_SECONDS = 10.0
BUFFER = 64 * 1024


@asynccontextmanager
async def hosted_ports(ports: Sequence[int] | None, host: str, port: int) -> AsyncIterator[None]:
    """Listen on `ports` of `host` while the block runs, and pass everything on to `port`.

    If `ports` is None, listen on those of the hosted service's ports that are free. Raise `StartError` if a port that
    was asked for isn't free.
    """
    tunnels = _Tunnels(host, port)
    servers = []
    for each in HOSTED_PORTS if ports is None else ports:
        try:
            servers.append(await asyncio.start_server(tunnels.serve, host, each, limit=BUFFER))
        except OSError as error:
            reason = os.strerror(error.errno or 0)
            if ports is not None:
                text = f"can't listen on {host}:{each}: {reason}; choose other --amqp-ports"
                raise StartError(os.EX_UNAVAILABLE, text) from None
            log.warning("clients can't choose amqp_port=%d, where the service can't listen: %s", each, reason)
    try:
        yield
    finally:
        for server in servers:
            server.close()


class _Tunnel:
    """A connection that is passed on."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.busy = False
        self._writer = writer

    def abort(self) -> None:
        """Close the connection at once."""
        self._writer.transport.abort()


class _Tunnels:
    """The connections that are passed on to one address."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._connections: Connections[_Tunnel] = Connections(MOST, MOST_OF_PEER)
        self._log = LogRation(log)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on what comes through a connection, and what comes back."""
        tunnel, peer = _Tunnel(writer), tcp_peer(writer.transport)
        self._connections.opened(tunnel, peer)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                from_node, to_node = await asyncio.open_connection(self._host, self._port, limit=BUFFER)
            try:
                await _first_end(self._pass_on(tunnel, reader, to_node), self._pass_on(tunnel, from_node, writer))
            finally:
                to_node.close()
        except OSError as error:
            text = "a connection could not be passed on to RabbitMQ: %s"
            self._log.warning(peer, text, error or "no answer in time")
        finally:
            writer.close()
            self._connections.closed(tunnel)

    async def _pass_on(self, tunnel: _Tunnel, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(BUFFER):
                self._connections.active(tunnel)
                writer.write(data)
                await writer.drain()


async def _first_end(*works: Coroutine[None, None, None]) -> None:
    """Run all until one of them ends."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
