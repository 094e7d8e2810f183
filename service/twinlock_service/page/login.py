"""How a person comes to the page: a form that takes the token, and a cookie for the session.

The cookie opens the page and nothing else. A browser sends it to no other site's requests (SameSite=Strict), and no
script sees it; but it does send it to every port of this host, see docs/service.md. The token itself is in a form's
body, never in a URL.
"""

from __future__ import annotations

import html
import string
from importlib.resources import files

from aiohttp import web
from twinlock_common.stylesheet import stylesheet

from twinlock_service.errors import ApiError, Code
from twinlock_service.page.sessions import LIFETIME, SESSIONS
from twinlock_service.request.authentication import authenticate, login_by_token
from twinlock_service.request.bodies import read_form
from twinlock_service.request.keys import CONTEXT
from twinlock_service.users.directory import Login

COOKIE = "twinlock-session"

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
"""Of each page: nothing is fetched from elsewhere, nobody frames it, nothing is kept."""


async def log_in(request: web.Request) -> web.Response:
    """Serve POST /login: begin a session, or show the form again with what is wrong with the token."""
    _refuse_foreign(request)
    form = await read_form(request)
    try:
        login = login_by_token(request.app[CONTEXT], form.get("token", "").strip())
    except ApiError as error:
        return form_page(error.reason)
    answer = _to_page()
    answer.set_cookie(
        _cookie_name(request),
        request.app[SESSIONS].begin(login),
        max_age=int(LIFETIME),
        httponly=True,
        samesite="Strict",
        secure=request.secure,
    )
    return answer


async def log_out(request: web.Request) -> web.Response:
    """Serve POST /logout: end the session."""
    _refuse_foreign(request)
    request.app[SESSIONS].end(request.cookies.get(_cookie_name(request), ""))
    answer = _to_page()
    answer.del_cookie(_cookie_name(request), httponly=True, samesite="Strict", secure=request.secure)
    return answer


async def show_style(_request: web.Request) -> web.Response:
    """Serve GET /style.css to anybody: it is the same for all."""
    headers = {**HEADERS, "Cache-Control": "no-cache"}
    return web.Response(body=stylesheet(), content_type="text/css", charset="utf-8", headers=headers)


def visitor(request: web.Request) -> Login | None:
    """Return who asks for the page, by bearer token or by session; None if it is nobody who is logged in.

    Raise `ApiError` 401 if the bearer token is no good.
    """
    if "Authorization" in request.headers:
        return authenticate(request)
    credential = request.app[SESSIONS].credential(request.cookies.get(_cookie_name(request), ""))
    return None if credential is None else request.app[CONTEXT].users.by_credential(credential)


def form_page(reason: str = "") -> web.Response:
    """Return the page with the login form, and why the last token was refused."""
    template = string.Template(files(__package__).joinpath("login.html").read_text())
    text = template.substitute(reason=html.escape(reason))
    return web.Response(status=401, text=text, content_type="text/html", headers=HEADERS)


def _to_page() -> web.Response:
    return web.Response(status=303, headers={**HEADERS, "Location": "/"})


def _cookie_name(request: web.Request) -> str:
    # Under this name browsers take it from https only, so that nobody on the way can plant one.
    return f"__Host-{COOKIE}" if request.secure else COOKIE


def _refuse_foreign(request: web.Request) -> None:
    """Raise `ApiError` 403 if another site's page has sent the form, to log somebody in or out."""
    origin = request.headers.get("Origin")
    host = request.headers["Host"]
    foreign = origin is not None and origin not in (f"http://{host}", f"https://{host}")
    if foreign or request.headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none"):
        text = "this form was sent from another site; open the service's own page and log in there"
        raise ApiError(403, Code.REQUEST_MALFORMED, text)
