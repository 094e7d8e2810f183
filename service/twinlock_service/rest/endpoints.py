"""The REST calls about endpoints."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from aiohttp import web

from twinlock_service.context import Context
from twinlock_service.errors import ApiError, Code
from twinlock_service.rabbitmq.management import ManagementError
from twinlock_service.request.access import every_endpoint, managed_endpoint, visible_endpoint
from twinlock_service.request.keys import CALLER, CONTEXT
from twinlock_service.request.models import EndpointRegistration, read, refuse_unenforced, uuid_in_path
from twinlock_service.state.endpoints import Endpoint, Kind, check_number
from twinlock_service.tasks.failures import fail_outstanding
from twinlock_service.users.directory import Identity


async def register(request: web.Request) -> web.Response:
    """Serve POST /v3/endpoints: add an endpoint, and tell it how to reach its queues."""
    context = request.app[CONTEXT]
    registration = await _registration(request)
    check_number(context.endpoints.number_of(request[CALLER].id))
    endpoint = context.endpoints.register(_kind(registration), request[CALLER].id, registration.model_dump(mode="json"))
    try:
        await context.topology.endpoint(endpoint)
    except ManagementError:
        # Nobody was told its uuid: an agent that tries again gets another one.
        context.endpoints.delete(endpoint.id)
        with contextlib.suppress(ManagementError):
            await context.topology.remove(endpoint)
        raise
    return web.json_response(context.topology.registration_info(endpoint))


async def register_again(request: web.Request) -> web.Response:
    """Serve PUT /v3/endpoints/{endpoint}: register a known endpoint that starts again."""
    context = request.app[CONTEXT]
    registration = await _registration(request)
    known = managed_endpoint(context, request[CALLER], uuid_in_path(request, "endpoint"))
    if known.kind == "user":
        raise ApiError(409, Code.ENDPOINT_ACCESS_FORBIDDEN, f"{known.id} is a user endpoint; its manager registers")
    if known.locked_until > time.time():
        text = f"Endpoint {known.id} was stopped remotely; it can register again in a few seconds"
        raise ApiError(423, Code.ENDPOINT_LOCKED, text)
    endpoint = context.endpoints.update(known.id, _kind(registration), registration.model_dump(mode="json"))
    context.topology.forget(endpoint)
    await context.topology.endpoint(endpoint)
    return web.json_response(context.topology.registration_info(endpoint))


async def show(request: web.Request) -> web.Response:
    """Serve GET /v2/endpoints/{endpoint}: describe an endpoint, to its owner and its admins with the configuration."""
    context, caller = request.app[CONTEXT], request[CALLER]
    endpoint = visible_endpoint(context, caller, uuid_in_path(request, "endpoint"))
    details = {"registration": endpoint.registration} if endpoint.managed_by(caller) else {}
    return web.json_response({**_summary(endpoint), **details})


async def status(request: web.Request) -> web.Response:
    """Serve GET /v2/endpoints/{endpoint}/status: return whether an endpoint is online.

    Its owner and its admins see the last status report, too.
    """
    context, caller = request.app[CONTEXT], request[CALLER]
    endpoint = visible_endpoint(context, caller, uuid_in_path(request, "endpoint"))
    details = endpoint.report if endpoint.managed_by(caller) else {}
    return web.json_response({"status": endpoint.status, "details": details})


async def show_all(request: web.Request) -> web.Response:
    """Serve GET /v2/endpoints: list the caller's own endpoints, and with role=any the public ones, too.

    Endpoints that name the caller as an admin aren't listed for that.
    """
    context, caller = request.app[CONTEXT], request[CALLER]
    everything = request.query.get("role") == "any"
    listed = (each async for each in every_endpoint(context) if _listed(each, caller, everything))
    found = [_summary(each) async for each in listed]
    return web.json_response(found)


async def allowed_functions(request: web.Request) -> web.Response:
    """Serve GET /v3/endpoints/{endpoint}/allowed_functions: list the functions that may run there."""
    endpoint = visible_endpoint(request.app[CONTEXT], request[CALLER], uuid_in_path(request, "endpoint"))
    functions = endpoint.allowed_functions
    body = {"endpoint_id": endpoint.id, "restricted": functions is not None, "functions": functions or []}
    return web.json_response(body)


async def lock(request: web.Request) -> web.Response:
    """Serve POST /v2 or /v3/endpoints/{endpoint}/lock: close its connections and keep it away for a while."""
    context = request.app[CONTEXT]
    known = managed_endpoint(context, request[CALLER], uuid_in_path(request, "endpoint"))
    endpoint = context.endpoints.lock(known.id)
    await context.topology.endpoint(endpoint)
    await context.topology.disconnect(endpoint)
    return web.json_response({"endpoint_id": endpoint.id, "locked_until": endpoint.locked_until})


async def delete(request: web.Request) -> web.Response:
    """Serve DELETE /v2/endpoints/{endpoint}: delete it and its user endpoints; tasks that have no result yet fail."""
    context = request.app[CONTEXT]
    endpoint = managed_endpoint(context, request[CALLER], uuid_in_path(request, "endpoint"))
    text = f"Endpoint {endpoint.id} was deleted before the task had ended"
    await _empty(context, endpoint, text)
    while children := context.endpoints.children(endpoint.id):  # submissions may make others meanwhile
        for each in children:
            await _remove(context, each, text)
    context.endpoints.delete(endpoint.id)
    return web.json_response({"result": 200})


async def _remove(context: Context, endpoint_id: str, text: str) -> None:
    endpoint = context.endpoints.get(endpoint_id)
    if endpoint is not None:
        await _empty(context, endpoint, text)
        context.endpoints.delete(endpoint_id)


async def _empty(context: Context, endpoint: Endpoint, text: str) -> None:
    await context.topology.remove(endpoint)
    async with context.endpoint_locks[endpoint.id]:
        await fail_outstanding(context, endpoint.id, text)


async def _registration(request: web.Request) -> EndpointRegistration:
    registration = await read(request, EndpointRegistration)
    refused = {
        "authentication_policy": registration.authentication_policy,
        "high_assurance": registration.high_assurance,
    }
    refuse_unenforced("endpoints", refused)
    return registration


def _kind(registration: EndpointRegistration) -> Kind:
    # Agents since version 4 start user endpoints from a template even when they serve one user only.
    template = registration.metadata.get("user_config_template")
    return "manager" if registration.multi_user or template is not None else "single"


def _listed(endpoint: Endpoint, caller: Identity, everything: bool) -> bool:
    mine = endpoint.owned_by(caller)
    return mine or (everything and endpoint.usable_by(caller) and bool(endpoint.registration.get("public")))


def _summary(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "uuid": endpoint.id,
        "name": endpoint.name,
        "display_name": endpoint.registration.get("display_name") if endpoint.kind != "user" else None,
        "owner": endpoint.owner,
        "multi_user": endpoint.kind != "user" and bool(endpoint.registration.get("multi_user")),
        "parent": endpoint.parent,
        "status": endpoint.status,
    }
