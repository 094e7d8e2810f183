"""Connections that don't get on: they keep nobody out, and they end."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from aiohttp import web
from service_rig import free_port
from twinlock_service.http_server import connections
from twinlock_service.http_server.connections import Runner, serving
from twinlock_service.http_server.listening import listen
from twinlock_service.limits.connections import Connections

LIMIT = 60.0
"""Seconds for anything."""

HALF = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
LARGE = 64 * 2**20


async def answer(request: web.Request) -> web.Response:
    """Much or little, or little when the body has come."""
    with serving(request):
        await request.read()
    return web.Response(body=b"x" * (LARGE if request.path == "/large" else 2))


@asynccontextmanager
async def server() -> AsyncIterator[int]:
    """A server behind the service's limits: its port."""
    app = web.Application()
    app.add_routes([web.get("/", answer), web.get("/large", answer), web.post("/", answer)])
    runner = Runner(app, shutdown_timeout=1)
    await runner.setup()
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listening:
        await web.SockSite(runner, listening).start()
        yield listening.getsockname()[1]
        await runner.cleanup()


async def asked(port: int, head: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection on which this was sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head)
    await writer.drain()
    return reader, writer


async def served(port: int) -> bool:
    """Whether a request is answered."""
    reader, writer = await asked(port, HALF + b"\r\n")
    line = await asyncio.wait_for(reader.readline(), LIMIT)
    writer.close()
    return b" 200 " in line


async def test_requests_sent_by_halves_keep_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MOST_OF_PEER", 50)
    monkeypatch.setattr(connections, "HEAD_SECONDS", 10 * LIMIT)
    async with server() as port:
        halves = [await asked(port, HALF) for _ in range(100)]
        assert await served(port)
        ended = [asyncio.wait_for(reader.read(), LIMIT) for reader, _ in halves[:50]]
        await asyncio.gather(*ended, return_exceptions=True)
        last, writer = halves[-1]
        writer.write(b"\r\n")
        assert b" 200 " in await asyncio.wait_for(last.readline(), LIMIT), "only the oldest had to go"
        for _, each in halves:
            each.close()


class Counting(Runner):
    """Counts the connections that it was given."""

    given = 0

    @property
    def server(self) -> Any:
        """Counts one more."""
        make = super().server
        return make and (lambda: self._count(make))

    def _count(self, make: Callable[[], Any]) -> Any:
        self.given += 1
        return make()


async def test_many_connections_may_wait_and_few_are_accepted_at_once() -> None:
    runner = Counting(web.Application(), shutdown_timeout=1)
    await runner.setup()
    port = free_port()
    await listen(runner, "127.0.0.1", port, 0, None)
    allowed = int(Path("/proc/sys/net/core/somaxconn").read_text())
    many = min(1500, allowed)
    # While these are made, the loop, whose thread this is, accepts none.
    waiting = [socket.create_connection(("127.0.0.1", port), LIMIT) for _ in range(many)]
    most = 0
    async with asyncio.timeout(LIMIT):
        while runner.given < many:
            before = runner.given
            await asyncio.sleep(0)
            most = max(most, runner.given - before)
    assert most <= 50, "in one round of the loop, while everything else waits"
    for each in waiting:
        each.close()
    await runner.cleanup()


async def test_a_request_that_is_served_is_not_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MOST_OF_PEER", 5)
    async with server() as port:
        reader, writer = await asked(port, b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n1")
        assert await served(port), "so the one before is being served"
        halves = [await asked(port, HALF) for _ in range(20)]
        assert await served(port)
        writer.write(b"2")
        assert b" 200 " in await asyncio.wait_for(reader.readline(), LIMIT)
        for _, each in [*halves, (reader, writer)]:
            each.close()


def test_where_all_are_busy_the_new_one_has_to_go() -> None:
    limited: Connections[Ended] = Connections(most=5, most_of_peer=1)
    busy, new = Ended(busy=True), Ended()
    limited.opened(busy, "peer")
    limited.opened(new, "peer")
    assert (busy.aborted, new.aborted) == (False, True)


async def test_a_head_has_to_be_complete_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 2.0)
    async with server() as port:
        for sent in (b"", HALF):
            reader, writer = await asked(port, sent)
            assert await asyncio.wait_for(reader.read(), LIMIT) == b""
            writer.close()


async def test_who_takes_nothing_of_an_answer_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "STALL_SECONDS", 0.5)
    async with server() as port:
        with socket.socket() as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.connect(("127.0.0.1", port))
            slow.sendall(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
            slow.settimeout(LIMIT)
            assert await asyncio.to_thread(slow.recv, 1), "it is being answered"
            await eventually(lambda: not connected(port))


async def test_who_takes_it_slowly_gets_it_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "STALL_SECONDS", 20.0)
    slow_until = time.monotonic() + 30
    async with server() as port:
        reader, writer = await asked(port, b"GET /large HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        read = 0
        while chunk := await asyncio.wait_for(reader.read(2**20), LIMIT):
            read += len(chunk)
            await asyncio.sleep(0.1 if time.monotonic() < slow_until else 0)
        writer.close()
        assert read > LARGE


class Ended:
    """Stands for a connection."""

    def __init__(self, *, busy: bool = False) -> None:
        self.aborted = False
        self.busy = busy

    def abort(self) -> None:
        """Note it."""
        self.aborted = True


def test_the_peer_with_the_most_connections_makes_room() -> None:
    limited: Connections[Ended] = Connections(most=5, most_of_peer=10)
    greedy, modest = [Ended() for _ in range(4)], [Ended() for _ in range(2)]
    for each in greedy:
        limited.opened(each, "greedy")
    limited.active(greedy[0])
    for each in modest:
        limited.opened(each, "modest")
    assert [each.aborted for each in greedy] == [False, True, False, False], "the one that was silent for longest"
    assert not any(each.aborted for each in modest)


def test_a_connection_that_has_ended_makes_room_itself() -> None:
    limited: Connections[Ended] = Connections(most=5, most_of_peer=1)
    first, second = Ended(), Ended()
    limited.opened(first, "peer")
    limited.closed(first)
    limited.closed(first)
    limited.opened(second, "peer")
    limited.opened(Ended(), "peer")
    assert (first.aborted, second.aborted) == (False, True)


def connected(port: int) -> bool:
    """Whether the server, which is in this process, holds a connection."""
    mine = psutil.Process().net_connections("tcp")
    return any(each.raddr and each.laddr.port == port for each in mine)


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait for it."""
    async with asyncio.timeout(LIMIT):
        while not condition():
            await asyncio.sleep(0.05)
