"""The console's pages and data over HTTP."""

import asyncio
import re
from importlib.metadata import version

from aiohttp import web

from twinlock_broker.console import assets
from twinlock_broker.console.guard import add_headers, checks
from twinlock_broker.console.keys import Settings
from twinlock_broker.console.stream import LIFETIME, Crowded, Stream
from twinlock_broker.console.viewer import Viewer, Viewers
from twinlock_broker.ration import Rations

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

RATE = 5.0
"""Requests for data a second that an account may make on average; a page makes one every ten seconds."""

AT_ONCE = 100.0
"""Requests that it may make at once."""


class Console:
    """The answers to requests of `viewers`, who are shown what comes by the `stream`."""

    def __init__(self, viewers: Viewers, stream: Stream) -> None:
        self._viewers = viewers
        self._stream = stream
        self._rations = Rations(RATE, AT_ONCE)

    async def show_viewer(self, request: web.Request) -> web.Response:
        """Serve GET /api/viewer: who looks, and what the page can show."""
        viewer = await self._viewer(request)
        about = {"user": viewer.user, "administrator": viewer.is_administrator}
        return web.json_response(about | {"version": version("twinlock"), "plots": assets.has_plots()})

    async def show_past(self, request: web.Request) -> web.Response:
        """Serve GET /api/endpoints/UUID: what is remembered of an endpoint."""
        viewer = await self._viewer(request)
        endpoint_id = request.match_info["endpoint"]
        found = self._stream.snapshot.past(endpoint_id, viewer) if _UUID.fullmatch(endpoint_id) else None
        if found is None:
            raise web.HTTPNotFound(text="no such endpoint of yours is known here")
        return web.json_response(found)

    async def send_events(self, request: web.Request) -> web.StreamResponse:
        """Serve GET /api/events: all that the viewer may see, as it changes."""
        viewer = await self._viewer(request)
        try:
            with self._stream.admitted(viewer):
                return await self._send_events(request, viewer)
        except Crowded as error:
            raise web.HTTPServiceUnavailable(text=str(error)) from error

    async def _viewer(self, request: web.Request) -> Viewer:
        """Return who asks. Raise `HTTPForbidden`, or `HTTPTooManyRequests`, so that nobody keeps others from asking."""
        viewer = await self._viewers.of(request)
        ration = self._rations.of(viewer.user)
        if ration.wait():
            raise web.HTTPTooManyRequests(text=f"more than {RATE:.0f} requests a second; wait a moment")
        ration.take()
        return viewer

    async def _send_events(self, request: web.Request, viewer: Viewer) -> web.StreamResponse:
        # Web servers that would collect an answer before they pass it on are told not to: nginx by this header.
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
        await response.prepare(request)
        try:
            async with asyncio.timeout(LIFETIME) as lifetime:
                await self._stream.feed(viewer, response.write)
        except TimeoutError:
            if not lifetime.expired() and request.transport is not None:
                request.transport.abort()  # it takes nothing, so it wouldn't take an end either
        return response


def make_app(settings: Settings, console: Console, viewers: Viewers) -> web.Application:
    """Return the application."""
    app = web.Application(middlewares=checks(settings, viewers))
    app.on_response_prepare.append(add_headers)
    app.router.add_get("/api/viewer", console.show_viewer)
    app.router.add_get("/api/endpoints/{endpoint}", console.show_past)
    app.router.add_get("/api/events", console.send_events)
    assets.add_routes(app.router)
    return app
