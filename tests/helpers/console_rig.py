"""The console of a site, in the test's own process, and what its page would ask."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from twinlock_broker.console.app import Console, make_app
from twinlock_broker.console.history import Clock, History
from twinlock_broker.console.keys import Settings, read_settings
from twinlock_broker.console.listening import listen
from twinlock_broker.console.snapshot import Snapshot
from twinlock_broker.console.source import follow
from twinlock_broker.console.stream import Stream
from twinlock_broker.console.viewer import SECRET_HEADER, Viewers
from twinlock_broker.secret import Secret

LIMIT = 60.0
"""Seconds for an event to come."""

ADMINISTRATOR = "root"
"""Who sees everything."""

Headers = Mapping[str, str] | list[tuple[str, str]]


@dataclass(frozen=True)
class Page:
    """A console that runs."""

    address: str
    """The path of its socket, or HOST:PORT."""
    stream: Stream

    @contextlib.asynccontextmanager
    async def asked(self, path: str, headers: Headers) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer to a GET."""
        on_socket = self.address.startswith("/")
        connector = aiohttp.UnixConnector(self.address) if on_socket else aiohttp.TCPConnector()
        base = "http://localhost" if on_socket else f"http://{self.address}"
        async with (
            aiohttp.ClientSession(connector=connector, read_bufsize=1 << 22) as session,
            session.get(base + path, headers=headers) as answer,
        ):
            yield answer

    async def get(self, path: str, user: str | None = ADMINISTRATOR, **more: str) -> tuple[int, str]:
        """The status and text of an answer to an account's browser; `more` are further headers, with _ for -."""
        named = {} if user is None else {"X-Remote-User": user}
        async with self.asked(path, named | {name.replace("_", "-"): value for name, value in more.items()}) as answer:
            return answer.status, await answer.text()

    @contextlib.asynccontextmanager
    async def events(self, user: str = ADMINISTRATOR) -> AsyncIterator["Events"]:
        """The events that an account's browser gets."""
        async with self.asked("/api/events", {"X-Remote-User": user}) as answer:
            assert (answer.status, answer.content_type) == (200, "text/event-stream")
            yield Events(answer.content)


class Events:
    """Server-sent events."""

    def __init__(self, content: aiohttp.StreamReader) -> None:
        self._content = content

    async def next(self) -> tuple[str, Any]:
        """The name and the data of the next one."""
        async with asyncio.timeout(LIMIT):
            name, data, end = [await self._content.readline() for _ in range(3)]
        assert end == b"\n"
        return name.decode().removeprefix("event: ").strip(), json.loads(data.removeprefix(b"data: "))

    async def until(self, name: str, **wanted: Any) -> Any:
        """The data of the next event of this name that has these values."""
        while True:
            found, data = await self.next()
            if found == name and all(data[key] == value for key, value in wanted.items()):
                return data

    async def failures(self, number: int) -> list[dict[str, Any]]:
        """The failures, as soon as there are so many."""
        while len(found := await self.until("failures")) != number:
            pass
        failures: list[dict[str, Any]] = found
        return failures

    async def endpoints(self, *ids: str) -> dict[str, dict[str, Any]]:
        """The rows by their uuids, as soon as they are of these endpoints."""
        while True:
            rows = {row["id"]: row for row in (await self.until("state"))["endpoints"]}
            if rows.keys() == set(ids):
                return rows


@contextlib.asynccontextmanager
async def console(folder: Path, broker: Path, secret: str | None = None, **changes: Any) -> AsyncIterator[Page]:
    """A console with a socket in `folder` that asks at the readers' socket `broker`; `changes` are of its settings."""
    own = {"listen": str(folder / "console.sock"), "broker_socket": broker, "administrators": (ADMINISTRATOR,)}
    settings: Settings = replace(read_settings(None), **own | changes)  # type: ignore[arg-type]  # each is of its kind
    viewers = Viewers(settings, None if secret is None else Secret(secret.encode()))
    history = History(settings.history, Clock())
    stream = Stream(Snapshot(None, "not yet", history))
    runner = web.AppRunner(make_app(settings, Console(viewers, stream), viewers), access_log=None, shutdown_timeout=0.1)
    following = asyncio.create_task(follow(broker, history, stream))
    try:
        await listen(runner, settings)
        yield Page(settings.listen, stream)
    finally:
        following.cancel()
        await asyncio.wait((following,))
        await runner.cleanup()


def with_secret(secret: str) -> dict[str, str]:
    """The header in which the web server sends it."""
    return {SECRET_HEADER.replace("-", "_"): secret}
