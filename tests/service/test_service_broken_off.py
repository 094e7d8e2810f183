"""Connections that break off while a request is served: the client's own, and those behind the service."""

import asyncio
import logging
import socket

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from rest_rig import AS_ALICE
from twinlock_service.context import Context
from twinlock_service.http_server.app import make_app
from twinlock_service.http_server.connections import Runner

LIMIT = 60.0
"""Seconds for anything."""

HALF = f"""\
POST /v3/functions HTTP/1.1\r
Host: localhost\r
Authorization: {AS_ALICE["Authorization"]}\r
Content-Length: 8000000\r
\r
{{""".encode()
"""A request of which the rest doesn't come; of such large ones a caller has one at a time."""


async def refuse(_: web.Request) -> web.Response:
    """Serve a call for which nobody listens where the service asks."""
    raise ConnectionRefusedError("nobody listens")


async def test_a_connection_behind_the_service_is_not_the_clients_fault(context: Context) -> None:
    app = make_app(context)
    app.router.add_get("/behind", refuse)
    async with TestClient[web.Request, web.Application](TestServer(app)) as client:
        answer = await client.get("/behind")
        assert answer.status == 500
        assert (await answer.json())["reason"] == "internal error of the service; its log says more"


async def test_a_client_that_goes_away_is_no_error_of_the_service(
    context: Context, caplog: pytest.LogCaptureFixture
) -> None:
    runner = Runner(make_app(context), shutdown_timeout=1)
    await runner.setup()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        await web.SockSite(runner, listening).start()
        port = listening.getsockname()[1]
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", timeout=aiohttp.ClientTimeout(LIMIT)) as client:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(HALF)
            await client.get("/v2/version")
            writer.transport.abort()
            answer = await client.post("/v3/functions", headers=AS_ALICE, data=b" " * 8_000_000)
            assert answer.status == 400, "so the one before is over"
        await runner.cleanup()
    assert [each.getMessage() for each in caplog.records if each.levelno >= logging.ERROR] == []
