"""The two calls of Globus Auth that globus-sdk makes: tokens for confidential clients, and whose a token is."""

from __future__ import annotations

import base64
from collections.abc import Iterable

from aiohttp import web

from twinlock_service.context import Context
from twinlock_service.request.authentication import AUTH, COMPUTE, authenticate
from twinlock_service.request.bodies import read_form
from twinlock_service.request.keys import CONTEXT
from twinlock_service.state.tokens import LIFETIME
from twinlock_service.users.directory import Login

_COMPUTE_SCOPE = "https://auth.globus.org/scopes/facd7ccc-c5f4-42aa-916b-a0e270e2c2a9/all"
_AUTH_SCOPES = {"openid", "profile", "email"}
_AUTH_PREFIX = "urn:globus:auth:scope:auth.globus.org:"


async def token(request: web.Request) -> web.Response:
    """Serve POST /v2/oauth2/token for the grant client_credentials.

    The answer has one token for each resource server of the requested scopes.
    """
    form = await read_form(request)
    client = _client(request, form.get("client_id", ""), form.get("client_secret", ""))
    if client is None:
        return _oauth_error(401, "invalid_client", "unknown client, or not its secret")
    grant = form.get("grant_type", "")
    if grant != "client_credentials":
        return _oauth_error(400, "unsupported_grant_type", f"this service grants client_credentials, not {grant[:64]}")
    asked = _top_level_scopes(form.get("scope", "")) or ["openid"]
    unknown = [scope for scope in asked if _resource_server(scope) is None]
    if unknown:
        return _oauth_error(400, "invalid_scope", f"unknown scope: {' '.join(unknown)[:200]}")
    first, *others = _issue(request.app[CONTEXT], client.credential, asked)
    return web.json_response({**first, "other_tokens": others})


async def userinfo(request: web.Request) -> web.Response:
    """Serve GET /v2/oauth2/userinfo: return whose token it is, and all identities of that person."""
    caller = authenticate(request, AUTH).identity
    primary, *_ = identities = caller.identity_set()
    names = ("sub", "name", "email", "organization", "identity_provider", "identity_provider_display_name")
    info = {name: primary[name] for name in names}
    return web.json_response({**info, "preferred_username": caller.username, "identity_set": identities})


def _client(request: web.Request, form_id: str, form_secret: str) -> Login | None:
    users = request.app[CONTEXT].users
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return users.by_secret(form_id, form_secret)
    try:
        name, _, secret = base64.b64decode(value, validate=True).decode().partition(":")
    except ValueError:
        return None
    return users.by_secret(name, secret)


def _issue(context: Context, credential: str, asked: Iterable[str]) -> list[dict[str, object]]:
    by_server: dict[str, list[str]] = {}
    for scope in asked:
        by_server.setdefault(_resource_server(scope) or AUTH, []).append(scope)
    return [
        {
            "access_token": context.tokens.issue(credential, server),
            "resource_server": server,
            "scope": " ".join(scopes),
            "expires_in": LIFETIME,
            "token_type": "Bearer",
        }
        for server, scopes in by_server.items()
    ]


def _top_level_scopes(text: str) -> list[str]:
    # "a[b *c] d" asks for a, and that a's service may use b and c; those aren't tokens for the client.
    depth, flat = 0, ""
    for character in text:
        depth += {"[": 1, "]": -1}.get(character, 0)
        if depth < 0:
            break
        if depth == 0 and character != "]":
            flat += character
    if depth != 0:
        return [text]  # its brackets don't match, so it isn't the name of any scope
    return list(dict.fromkeys(scope.lstrip("*") for scope in flat.split()))


def _resource_server(scope: str) -> str | None:
    if scope == _COMPUTE_SCOPE:
        return COMPUTE
    return AUTH if scope in _AUTH_SCOPES or scope.startswith(_AUTH_PREFIX) else None


def _oauth_error(status: int, error: str, description: str) -> web.Response:
    return web.json_response({"error": error, "error_description": description}, status=status)
