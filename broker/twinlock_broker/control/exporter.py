"""The metrics over HTTP, on loopback or a Unix socket, for Prometheus to fetch.

The library's own server isn't used: it makes a thread for each connection, without bound, and any local account may
connect.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from twinlock_broker.control.listener import Caller, listening
from twinlock_broker.errors import Fatal
from twinlock_broker.metrics import DROPPED_CONNECTIONS, REGISTRY, exported

_LIMIT = 5.0  # seconds for a client to ask, and to take the answer
_AT_ONCE = 64
_TOGETHER = 0.02  # seconds in which requests get one answer
_HEAD = 8192


@contextlib.asynccontextmanager
async def exporting(address: str | None, *collectors: Collector) -> AsyncIterator[None]:
    """Serve metrics at `address`, ``HOST:PORT`` or a path, while the block runs. Raise `Fatal` (73, 78).

    `collectors` are those with values that are counted when they are fetched.
    """
    if address is None:
        yield
        return
    exporter = Exporter()
    with exported(*collectors):
        if address.startswith("/"):
            serving: AbstractAsyncContextManager[Any] = listening(Path(address), 0o660, exporter.serve_caller)
        else:
            serving = await _tcp(address, exporter)
        async with serving:
            yield


async def _tcp(address: str, exporter: "Exporter") -> asyncio.Server:
    host, _, port = address.rpartition(":")
    try:
        return await asyncio.start_server(exporter.serve, host.strip("[]"), int(port), limit=_HEAD)
    except OSError as error:
        raise Fatal(os.EX_CANTCREAT, f"metrics: {address}: {error.strerror or error}") from error


class Exporter:
    """The answers to requests. Any account on the host may ask, as often as it likes."""

    def __init__(self) -> None:
        self._open: dict[asyncio.StreamWriter, None] = {}  # the oldest first
        self._next: asyncio.Task[bytes] | None = None

    async def serve_caller(self, caller: Caller) -> None:
        """Serve a connection to the Unix socket."""
        await self.serve(caller.reader, caller.writer)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection: one request, one answer. A client that is too slow or asks for too much gets nothing."""
        if len(self._open) >= _AT_ONCE:
            oldest = next(iter(self._open))
            oldest.transport.abort()  # Prometheus asks at once, and has its answer before its connection is the oldest
            del self._open[oldest]
            DROPPED_CONNECTIONS.inc()
        self._open[writer] = None
        try:
            async with asyncio.timeout(_LIMIT):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(await self._answer(head.split(b"\r\n", 1)[0]))
                writer.close()
                await writer.wait_closed()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return
        finally:
            self._open.pop(writer, None)
            writer.transport.abort()

    async def _answer(self, request: bytes) -> bytes:
        if request.split(b" ")[:2] != [b"GET", b"/metrics"]:
            return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        if self._next is None:
            self._next = asyncio.create_task(self._collect())
        body = await asyncio.shield(self._next)
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {CONTENT_TYPE_LATEST}\r\nContent-Length: {len(body)}\r\n"
        return head.encode() + b"Connection: close\r\n\r\n" + body

    async def _collect(self) -> bytes:
        """Collect the metrics for all who ask within a moment: that takes long, compared with the loop's other work."""
        await asyncio.sleep(_TOGETHER)
        self._next = None
        return generate_latest(REGISTRY)
