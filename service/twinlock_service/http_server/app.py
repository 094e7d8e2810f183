"""The HTTP side: which call is served by what, who may call, and what errors look like."""

from __future__ import annotations

import contextlib
import logging
from importlib.metadata import version

from aiohttp import web
from aiohttp.typedefs import Handler

from twinlock_service.context import Context
from twinlock_service.errors import ApiError, Code
from twinlock_service.http_server.connections import serving
from twinlock_service.page import login, status_page
from twinlock_service.page.sessions import SESSIONS, Sessions
from twinlock_service.rabbitmq.management import ManagementError
from twinlock_service.request.authentication import authenticate
from twinlock_service.request.host_names import LISTENING_HOST, check_host
from twinlock_service.request.keys import CALLER, CONTEXT, LOGIN
from twinlock_service.request.models import MAX_BODY
from twinlock_service.rest import endpoints, functions, globus_auth, tasks

log = logging.getLogger(__name__)

MIN_CLIENT_VERSION = "4.15.0"
"""The oldest SDK and agent whose calls this service was checked against."""


def make_app(context: Context, host: str = "localhost") -> web.Application:
    """Return the application; `host` is where it listens."""
    app = web.Application(middlewares=[_errors, check_host], client_max_size=MAX_BODY)
    app[CONTEXT] = context
    app[LISTENING_HOST] = host
    app[SESSIONS] = Sessions()
    app.add_routes(
        [
            web.get("/", status_page.show),
            web.get("/style.css", login.show_style),
            web.post("/login", login.log_in),
            web.post("/logout", login.log_out),
            web.get("/v2/version", _version),
            web.post("/v2/oauth2/token", globus_auth.token),
            web.get("/v2/oauth2/userinfo", globus_auth.userinfo),
            *(web.route(method, path, _for_callers(handler)) for method, path, handler in _CALLS),
        ]
    )
    return app


_CALLS: list[tuple[str, str, Handler]] = [
    ("POST", "/v3/endpoints", endpoints.register),
    ("PUT", "/v3/endpoints/{endpoint}", endpoints.register_again),
    ("GET", "/v2/endpoints", endpoints.show_all),
    ("GET", "/v2/endpoints/{endpoint}", endpoints.show),
    ("DELETE", "/v2/endpoints/{endpoint}", endpoints.delete),
    ("GET", "/v2/endpoints/{endpoint}/status", endpoints.status),
    ("GET", "/v3/endpoints/{endpoint}/allowed_functions", endpoints.allowed_functions),
    ("POST", "/v2/endpoints/{endpoint}/lock", endpoints.lock),
    ("POST", "/v3/endpoints/{endpoint}/lock", endpoints.lock),
    ("POST", "/v3/endpoints/{endpoint}/submit", tasks.submit_tasks),
    ("POST", "/v2/functions", functions.register),
    ("POST", "/v3/functions", functions.register),
    ("GET", "/v2/functions/{function}", functions.show),
    ("DELETE", "/v2/functions/{function}", functions.delete),
    ("GET", "/v2/get_amqp_result_connection_url", tasks.result_url),
    ("GET", "/v2/tasks/{task}", tasks.show),
    ("POST", "/v2/batch_status", tasks.show_batch),
    ("GET", "/v2/taskgroup/{group}", tasks.show_group),
]


async def _version(_request: web.Request) -> web.Response:
    # Asked for by clients before they have a token.
    mine = version("twinlock")
    return web.json_response({"api": mine, "min_ep_version": MIN_CLIENT_VERSION, "min_sdk_version": MIN_CLIENT_VERSION})


def _for_callers(handler: Handler) -> Handler:
    async def checked(request: web.Request) -> web.StreamResponse:
        request[LOGIN] = authenticate(request)
        caller = request[CALLER] = request[LOGIN].identity
        size = request.content_length if request.body_exists else 0
        async with request.app[CONTEXT].callers.turn(caller.id, size):
            answer = await handler(request)
            # Sent before the next one is made: a client that takes no answers gets no more of them into memory.
            with contextlib.suppress(ConnectionError):
                await _send(request, answer)
            return answer

    return checked


async def _send(request: web.Request, answer: web.StreamResponse) -> None:
    """Send an answer, and wait until the client has taken most of it. Raise `ConnectionError` if the client is gone."""
    writer = await answer.prepare(request)
    await answer.write_eof()
    if writer is not None:
        await writer.drain()


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        with serving(request):
            return await handler(request)
    except ApiError as error:
        failure = error
    except ManagementError as error:
        log.warning("%s %s: %s", request.method, request.rel_url.raw_path, error)
        failure = ApiError(503, Code.INTERNAL_ERROR, "RabbitMQ can't be set up now; try again")
    except web.HTTPException as error:
        failure = ApiError(error.status, Code.REQUEST_MALFORMED, f"{request.method} {request.path}: {error.reason}")
    except Exception:
        log.exception("%s %s", request.method, request.rel_url.raw_path)
        failure = ApiError(500, Code.INTERNAL_ERROR, "internal error of the service; its log says more")
    return web.json_response(failure.body(), status=failure.http_status)
