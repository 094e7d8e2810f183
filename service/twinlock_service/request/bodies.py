"""The bodies of requests, read within limits of size, time and structure."""

from __future__ import annotations

import asyncio
from urllib.parse import parse_qsl

from aiohttp import web

from twinlock_service.errors import ApiError, Code
from twinlock_service.limits.json_complexity import (
    JsonLimitError,
    NotJsonError,
    check_escapes_in_turns,
    check_json_in_turns,
)

BODY_SECONDS = 120.0
"""How long a body may take to arrive."""

MAX_FORM = 16 * 1024
"""Bytes of a login's form, which comes from somebody who isn't known yet."""

MAX_FORM_FIELDS = 100


async def read_body(request: web.Request, limit: int) -> bytes:
    """Return the request's body.

    Raise `ApiError` 400, 408, 413 or 415 if it is broken off, comes too slowly, has more than `limit` bytes, or is
    compressed.
    """
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise ApiError(415, Code.REQUEST_MALFORMED, "this service takes no compressed requests; send it as it is")
    if (request.content_length or 0) > limit:
        raise _too_large(limit)
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await _read(request, limit)
    except TimeoutError:
        text = f"the request's body did not arrive within {BODY_SECONDS:.0f} s; send less at once"
        raise ApiError(408, Code.REQUEST_MALFORMED, text) from None
    except (ConnectionError, web.RequestPayloadError):
        text = "the request's body ended too early, or doesn't match its header"
        raise ApiError(400, Code.REQUEST_MALFORMED, text) from None


async def read_json(request: web.Request, limit: int) -> bytes:
    """Return a body of JSON that can be decoded without holding up others.

    Raise `ApiError` as `read_body` does, 400 if the body isn't JSON, and 413 if it is beyond a limit.
    """
    body = await read_body(request, limit)
    try:
        await check_json_in_turns(body)
        await check_escapes_in_turns(body)
    except NotJsonError as error:
        raise ApiError(400, Code.REQUEST_MALFORMED, f"bad request: {error}") from None
    except JsonLimitError as error:
        raise ApiError(413, Code.REQUEST_MALFORMED, f"the request's JSON is too complex: {error}") from None
    return body


async def read_form(request: web.Request) -> dict[str, str]:
    """Return a short form's values by the names of its fields.

    Raise `ApiError` 400 if it isn't a form, and as `read_body` does.
    """
    body = await read_body(request, MAX_FORM)
    try:
        return dict(parse_qsl(body.decode(), max_num_fields=MAX_FORM_FIELDS))
    except ValueError:
        raise ApiError(400, Code.REQUEST_MALFORMED, "the request's body isn't a UTF-8 form") from None


async def _read(request: web.Request, limit: int) -> bytes:
    body = bytearray()
    while chunk := await request.content.readany():
        body += chunk
        if len(body) > limit:
            raise _too_large(limit)
    return bytes(body)


def _too_large(limit: int) -> ApiError:
    return ApiError(413, Code.REQUEST_MALFORMED, f"the request's body has more than {limit:,} bytes; send less at once")
