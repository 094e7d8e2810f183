"""Requests that arrive under a host name which isn't the service's: DNS rebinding."""

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from service_rig import ALICE, TOKENS, Rest, bearer, users_file
from twinlock_service.context import Context
from twinlock_service.http_server.app import make_app
from twinlock_service.users.directory import load_users

FOREIGN = ["evil.example", "evil.example:5000", "localhost.evil.example", "evil.localhost", "127.0.0.1.evil.example"]
FOREIGN += [
    "192.0.2.1",
    "127.0.0.2:5000",
    "[::2]",
    "localhost@evil.example",
    "evil.example#localhost",
    "",
    "local host",
]
FOREIGN += ["localhost:x", "2130706433", "[", "\u00e9vil"]


@pytest.fixture
async def named(context: Context, tmp_path: Path) -> AsyncIterator[Rest]:
    """A service that has further names."""
    file = users_file(tmp_path / "named.yaml", service={"hosts": ["Compute.Site.example"]})
    context.users = load_users(file)
    async with TestClient[web.Request, web.Application](TestServer(make_app(context, "head.site.example"))) as client:
        yield client


@pytest.mark.parametrize("host", FOREIGN)
async def test_a_foreign_name_is_refused_whatever_is_asked_for(rest: Rest, host: str) -> None:
    for method, path in (
        ("GET", "/"),
        ("POST", "/login"),
        ("GET", "/v2/version"),
        ("POST", "/v2/oauth2/token"),
        ("GET", "/v2/endpoints"),
        ("POST", "/v3/functions"),
        ("GET", "/nowhere"),
    ):
        form = {"token": TOKENS[ALICE]} if path == "/login" else None
        answer = await rest.request(
            method, path, headers={"Host": host, **bearer(TOKENS[ALICE])}, data=form, allow_redirects=False
        )
        assert answer.status in (400, 421)
        assert "Set-Cookie" not in answer.headers
        if answer.status == 421:
            assert "`hosts`" in (await answer.json())["reason"]


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "LOCALHOST:5000", "localhost.", "127.0.0.1", "127.0.0.1:1", socket.gethostname()),
        *("compute.site.example:443", "COMPUTE.site.example.", "head.site.example"),
    ],
)
async def test_ones_own_names_are_answered(named: Rest, host: str) -> None:
    answer = await named.get("/v2/endpoints", headers={"Host": host, **bearer(TOKENS[ALICE])})
    assert answer.status == 200


async def test_two_names_are_none(rest: Rest) -> None:
    head = b"GET /v2/version HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
    assert await status_of(rest, head) in (400, 421)


async def test_no_name_is_none(rest: Rest) -> None:
    assert await status_of(rest, b"GET /v2/version HTTP/1.0\r\n\r\n") in (400, 421)


async def status_of(rest: Rest, head: bytes) -> int:
    """The status that a head is answered with, sent as it is."""
    reader, writer = await asyncio.open_connection(rest.host, rest.port)
    writer.write(head)
    line = await asyncio.wait_for(reader.readline(), 60)
    writer.close()
    return int(line.split()[1])
