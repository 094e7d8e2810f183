"""The REST calls about functions."""

from __future__ import annotations

from aiohttp import web

from twinlock_service.errors import ApiError, Code
from twinlock_service.request.access import find_function
from twinlock_service.request.keys import CALLER, CONTEXT
from twinlock_service.request.models import FunctionRegistration, check_meta, read, refuse_unenforced, uuid_in_path
from twinlock_service.state.functions import pack_source


async def register(request: web.Request) -> web.Response:
    """Serve POST /v3/functions: register a function."""
    body = await read(request, FunctionRegistration)
    check_meta(body)
    refuse_unenforced("functions", {"group": body.group, "ha_endpoint_id": body.ha_endpoint_id})
    code = body.function_code if body.serialized else pack_source(body.function_name, body.function_code)
    registration = body.model_dump(mode="json", exclude={"function_code", "group", "ha_endpoint_id"})
    function = request.app[CONTEXT].functions.add(request[CALLER].id, registration, code)
    return web.json_response({"function_uuid": function})


async def show(request: web.Request) -> web.Response:
    """Serve GET /v2/functions/{function}: describe a function, with its code."""
    function = find_function(request.app[CONTEXT], request[CALLER], uuid_in_path(request, "function"))
    return web.json_response({"function_uuid": function.id, "function_code": function.code, **function.registration})


async def delete(request: web.Request) -> web.Response:
    """Serve DELETE /v2/functions/{function}: delete a function, for its owner only."""
    context = request.app[CONTEXT]
    function = find_function(context, request[CALLER], uuid_in_path(request, "function"))
    if function.owner != request[CALLER].id:
        raise ApiError(403, Code.FUNCTION_ACCESS_FORBIDDEN, f"Function {function.id} belongs to somebody else")
    context.functions.delete(function.id)
    return web.json_response({"result": 200})
