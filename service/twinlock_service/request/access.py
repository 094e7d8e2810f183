"""Who may see and do what. What a caller may not see is answered as if it didn't exist."""

from __future__ import annotations

from collections.abc import AsyncIterator

from twinlock_service.context import Context
from twinlock_service.errors import ApiError, Code
from twinlock_service.limits.chunks import TimeSlice
from twinlock_service.state.endpoints import Endpoint
from twinlock_service.state.functions import Function
from twinlock_service.state.tasks import Task
from twinlock_service.users.directory import Identity


async def every_endpoint(context: Context) -> AsyncIterator[Endpoint]:
    """Yield all endpoints, the oldest first, and let others work meanwhile.

    There may be many endpoints, with large registrations.
    """
    time_slice = TimeSlice()
    for endpoint_id in context.endpoints.ids():
        endpoint = context.endpoints.get(endpoint_id)
        await time_slice.pause()
        if endpoint is not None:
            yield endpoint


def visible_endpoint(context: Context, caller: Identity, endpoint_id: str) -> Endpoint:
    """Return the endpoint. Raise `ApiError` 404 if there is none, or none that this caller may see."""
    endpoint = context.endpoints.get(endpoint_id)
    if endpoint is None or not endpoint.visible_to(caller):
        raise ApiError(404, Code.ENDPOINT_NOT_FOUND, f"Endpoint {endpoint_id} could not be resolved")
    return endpoint


def managed_endpoint(context: Context, caller: Identity, endpoint_id: str) -> Endpoint:
    """Return the endpoint, for a caller who wants to change it. Raise `ApiError` 403 if it is somebody else's."""
    endpoint = visible_endpoint(context, caller, endpoint_id)
    if not endpoint.managed_by(caller):
        text = f"Endpoint {endpoint_id} belongs to somebody else; only its owner and its admins may change it"
        raise ApiError(403, Code.ENDPOINT_ACCESS_FORBIDDEN, text)
    return endpoint


def usable_endpoint(context: Context, caller: Identity, endpoint_id: str) -> Endpoint:
    """Return the endpoint, for a caller who wants to submit tasks.

    Raise `ApiError` 403 if it takes none from this caller.
    """
    endpoint = visible_endpoint(context, caller, endpoint_id)
    if not endpoint.usable_by(caller):
        text = f"Endpoint {endpoint_id} belongs to somebody else, as whom your tasks would run; submit to one of yours"
        if endpoint.kind == "user":
            text = f"Endpoint {endpoint_id} takes no submissions; submit to its manager endpoint {endpoint.parent}"
        raise ApiError(403, Code.ENDPOINT_ACCESS_FORBIDDEN, text)
    return endpoint


def find_function(context: Context, caller: Identity, function_id: str) -> Function:
    """Return the function. Raise `ApiError` 404 if there is none, or none that this caller may use."""
    function = context.functions.get(function_id)
    if function is None or not (function.public or function.owner == caller.id):
        raise ApiError(404, Code.FUNCTION_NOT_FOUND, f"Function {function_id} could not be resolved")
    return function


def owned_task(context: Context, caller: Identity, task_id: str) -> Task | None:
    """Return the task if it is the caller's, else None."""
    task = context.tasks.get(task_id)
    return task if task is not None and task.owner == caller.id else None
