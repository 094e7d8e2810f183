"""What every request has to pass, and what every answer says to the browser."""

import logging

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from twinlock_common.host_header import host_name

from twinlock_broker.console.keys import Settings
from twinlock_broker.console.viewer import Viewers
from twinlock_broker.printable import printable

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Server": "twinlock-console",
    "X-Content-Type-Options": "nosniff",
}
"""Of each answer: the page loads nothing from elsewhere, and nobody frames it."""

_SHOWN = 100
"""Characters of a foreign text in an answer."""

log = logging.getLogger(__name__)


async def add_headers(_request: web.Request, response: web.StreamResponse) -> None:
    """Add what each answer says. What isn't a file of the page is kept nowhere."""
    response.headers.update(_HEADERS)
    response.headers.setdefault("Cache-Control", "no-store")


def checks(settings: Settings, viewers: Viewers) -> list[Middleware]:
    """Return what requests pass, in this order."""

    @web.middleware
    async def check_request(request: web.Request, handler: Handler) -> web.StreamResponse:
        viewers.check_secret(request)
        _check_host(request, settings)
        _check_site(request)
        return await handler(request)

    return [_errors, check_request]


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Have each error be a line of text, and none of it show what is inside."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        text = error.text or error.reason
        return web.Response(status=error.status, text=f"twinlock-console: {printable(text, 500)}\n")
    except ConnectionError:  # the browser is gone
        raise
    except Exception:
        log.exception("%s %s", request.method, printable(request.rel_url.raw_path, _SHOWN))
        return web.Response(status=500, text="twinlock-console: internal error; its log says more\n")


def _check_host(request: web.Request, settings: Settings) -> None:
    """Raise `HTTPMisdirectedRequest` for another host name than the page's.

    Anybody's page can have its own name point to this host (DNS rebinding); the browser would then take this page for
    a part of that one.
    """
    given = request.headers.getall("Host", [])
    name = host_name(given)
    if name is None or name not in {host.lower() for host in settings.hosts}:
        shown = printable(", ".join(given), _SHOWN) or "(none)"
        reason = f"this page doesn't answer to the host name {shown}; add it to `hosts` in console.yaml"
        raise web.HTTPMisdirectedRequest(text=reason)


def _check_site(request: web.Request) -> None:
    """Raise `HTTPForbidden` if another site's page has asked. Its links may lead here: those ask for a document."""
    site = request.headers.get("Sec-Fetch-Site", "none")
    by_link = request.headers.get("Sec-Fetch-Dest") == "document"
    if site not in ("same-origin", "none") and not by_link:
        raise web.HTTPForbidden(text="another site's page has asked; open this page itself")
