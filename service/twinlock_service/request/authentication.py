"""Who is calling, by the bearer token.

A user's token, from the users file, is good for both resource servers; a token that a client was given, for one.
"""

from __future__ import annotations

from aiohttp import web

from twinlock_service.context import Context
from twinlock_service.errors import ApiError, Code
from twinlock_service.request.keys import CONTEXT
from twinlock_service.users.directory import Login

COMPUTE = "funcx_service"
AUTH = "auth.globus.org"
"""Resource servers, by the names that Globus Auth has for them."""


def authenticate(request: web.Request, resource_server: str = COMPUTE) -> Login:
    """Return the caller's login, by the bearer token.

    Raise `ApiError` 401 if there is no token, or if it is unknown, expired, or of another resource server.
    """
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not value or not value.isascii():
        raise ApiError(401, Code.USER_UNAUTHENTICATED, "no bearer token; log in, or pass an authorizer with one")
    return login_by_token(request.app[CONTEXT], value.strip(), resource_server)


def login_by_token(context: Context, shown: str, resource_server: str = COMPUTE) -> Login:
    """Return the login that a token belongs to.

    Raise `ApiError` 401, which says what to do, if the token is unknown, expired, or of another resource server.
    """
    login = context.users.by_token(shown) or _client_login(context, shown, resource_server)
    if login is None:
        text = f"the bearer token is unknown, revoked, expired or not for {resource_server}; {_next_step('NAME')}"
        raise ApiError(401, Code.USER_UNAUTHENTICATED, text)
    if login.expired:
        name = login.identity.username
        text = f"the bearer token of {name} expired on {login.expiry()}; {_next_step(name)}"
        raise ApiError(401, Code.USER_UNAUTHENTICATED, text)
    return login


def _next_step(name: str) -> str:
    return f"ask the administrator of this service for a new one (`twinlock-service user token {name}`)"


def _client_login(context: Context, shown: str, resource_server: str) -> Login | None:
    grant = context.tokens.find(shown)
    if grant is None or grant.resource_server != resource_server:
        return None
    return context.users.by_credential(grant.credential)
