"""A submission's way from the SDK to an endpoint: its function, its endpoint, the command, the tasks."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from globus_compute_common import messagepack
from globus_compute_common.messagepack.message_types import Task as TaskMessage
from twinlock_common.amqp.errors import LinkError, RefusedMessageError

from twinlock_service.context import Context
from twinlock_service.errors import ApiError, Code
from twinlock_service.limits.chunks import TimeSlice, chunks
from twinlock_service.rabbitmq.topology import command_queue, task_queue
from twinlock_service.request.access import find_function, usable_endpoint
from twinlock_service.request.models import MAX_BODY, MAX_TASKS, Submission, check_documents
from twinlock_service.state.database import transaction
from twinlock_service.state.endpoints import Endpoint, user_endpoint_id
from twinlock_service.state.functions import Function
from twinlock_service.users.directory import Identity

MAX_OUTSTANDING = 1_000_000
"""Tasks that may wait for one endpoint."""

RECONNECTION_SECONDS = 15.0
"""How long a submission waits for RabbitMQ when the connection was lost; it is tried again each 10 s at least."""

CHUNK_TASKS, CHUNK_BYTES = 64, 4 * 1024 * 1024
"""How many tasks are recorded and queued before others get their turn."""


@dataclass(frozen=True, slots=True)
class _Call:
    """A call of a function with packed arguments."""

    function: Function
    payload: str


async def submit(context: Context, caller: Identity, endpoint_id: str, submission: Submission) -> dict[str, Any]:
    """Submit tasks to an endpoint, and return the answer.

    If the endpoint is a manager endpoint, the tasks go to the caller's user endpoint for this configuration, after a
    command to start it. On return they are recorded and in RabbitMQ. Raise `ApiError` if they can't be submitted; then
    none of them is recorded.
    """
    endpoint = usable_endpoint(context, caller, endpoint_id)
    check_documents(submission)
    functions = await _functions(context, caller, endpoint, submission)
    _check_room(context, caller, endpoint, submission)
    group = _group(context, caller, submission)
    target = await _target(context, caller, endpoint, submission)
    if submission.create_queue:
        await context.topology.result_queue(caller.id, group)
    async with context.endpoint_locks[target.id]:
        await _check_there(context, target)
        tasks: dict[str, list[str]] = {function: [] for function in functions}
        try:
            await context.amqp.connected(within_s=RECONNECTION_SECONDS)
            if target is not endpoint:
                await _publish_command(context, caller, endpoint, target, submission)
            for chunk in chunks(_calls(submission, functions), CHUNK_TASKS, _size, CHUNK_BYTES):
                recorded = _record(context, caller, target, group, chunk)
                for task, call in recorded:
                    tasks[call.function.id].append(task)
                await asyncio.gather(*(_publish_task(context, target, *each, submission) for each in recorded))
        except BaseException as error:
            # Also when the service is being stopped: nobody was told of these tasks, so nobody waits for them.
            context.tasks.forget(task for ids in tasks.values() for task in ids)
            raise _refused(context, error) from None
    return {"request_id": str(uuid.uuid4()), "task_group_id": group, "endpoint_id": endpoint.id, "tasks": tasks}


class _UndeliverableError(Exception):
    """A queue of the endpoint is missing, or full."""

    def __init__(self, endpoint: Endpoint, queue: str) -> None:
        super().__init__(f"RabbitMQ has no room in the queue {queue}, or has lost it; try again later")
        self.endpoint = endpoint


def _refused(context: Context, error: BaseException) -> BaseException:
    """Return what the caller is told of an error; the error itself if it isn't one that submitting causes."""
    match error:
        case _UndeliverableError():
            context.topology.forget(error.endpoint)
            return ApiError(503, Code.INTERNAL_ERROR, str(error))
        case RefusedMessageError():
            return ApiError(413, Code.REQUEST_MALFORMED, f"a task or its options are too large: {error}")
        case LinkError():
            return ApiError(503, Code.INTERNAL_ERROR, f"the tasks can't be queued now: {error}; try again")
    return error


async def _functions(
    context: Context, caller: Identity, endpoint: Endpoint, submission: Submission
) -> dict[str, Function]:
    """Return the functions by their uuids.

    Raise `ApiError` if one doesn't exist or isn't permitted, or if they are too much, together with all tasks.
    """
    count = sum(map(len, submission.tasks.values()))
    if count > MAX_TASKS:
        text = f"the submission has {count:,} tasks; at most {MAX_TASKS:,} are allowed, so submit them in parts"
        raise ApiError(413, Code.REQUEST_MALFORMED, text)
    found, size, time_slice = {}, 0, TimeSlice()
    for function_id, payloads in submission.tasks.items():
        function = _runnable(context, caller, endpoint, str(function_id))
        found[function.id] = function
        size += len(function.code) * max(1, len(payloads)) + sum(map(len, payloads))
        if size > MAX_BODY:
            text = f"the tasks have, each with its function, more than {MAX_BODY:,} bytes; submit them in parts"
            raise ApiError(413, Code.REQUEST_MALFORMED, text)
        await time_slice.pause()
    return found


def _runnable(context: Context, caller: Identity, endpoint: Endpoint, function_id: str) -> Function:
    function = find_function(context, caller, function_id)
    if endpoint.allowed_functions is not None and function.id not in endpoint.allowed_functions:
        text = f"Function {function.id} not permitted on endpoint {endpoint.id}"
        raise ApiError(403, Code.FUNCTION_NOT_PERMITTED, text)
    return function


def _group(context: Context, caller: Identity, submission: Submission) -> str:
    if submission.task_group_id is None:
        return context.tasks.new_group(caller.id)
    group = str(submission.task_group_id)
    if context.tasks.group_owner(group) != caller.id:
        raise ApiError(404, Code.TASK_GROUP_NOT_FOUND, f"you have no task group {group}")
    return group


async def _target(context: Context, caller: Identity, endpoint: Endpoint, submission: Submission) -> Endpoint:
    await context.topology.endpoint(endpoint)
    if endpoint.kind != "manager":
        return endpoint
    usable_endpoint(context, caller, endpoint.id)  # it may have been deleted meanwhile
    target = context.endpoints.user_endpoint(endpoint.id, caller.id, submission.user_endpoint_config or {})
    await context.topology.endpoint(target)
    return target


async def _check_there(context: Context, target: Endpoint) -> None:
    """Raise `ApiError` 404 if the endpoint was deleted meanwhile: nobody would ever end its tasks."""
    if context.endpoints.get(target.id) is None:
        await context.topology.remove(target)
        raise ApiError(404, Code.ENDPOINT_NOT_FOUND, f"Endpoint {target.id} was deleted meanwhile")


def _check_room(context: Context, caller: Identity, endpoint: Endpoint, submission: Submission) -> None:
    target = endpoint.id
    if endpoint.kind == "manager":
        target = user_endpoint_id(endpoint.id, caller.id, submission.user_endpoint_config or {})
    count = context.tasks.outstanding_count(target)
    if count + sum(map(len, submission.tasks.values())) > MAX_OUTSTANDING:
        text = (
            f"{count:,} tasks wait for this endpoint, at most {MAX_OUTSTANDING:,} may; submit more when some have ended"
        )
        raise ApiError(429, Code.REQUEST_MALFORMED, text)


def _calls(submission: Submission, functions: dict[str, Function]) -> Iterator[_Call]:
    for function_id, payloads in submission.tasks.items():
        for payload in payloads:
            yield _Call(functions[str(function_id)], payload)


def _size(call: _Call) -> int:
    return len(call.function.code) + len(call.payload)


def _record(
    context: Context, caller: Identity, target: Endpoint, group: str, calls: list[_Call]
) -> list[tuple[str, _Call]]:
    """Record tasks, and return each call with its task's uuid."""
    with transaction(context.db):
        return [(context.tasks.add(group, caller.id, target.id, call.function.id), call) for call in calls]


async def _publish_command(
    context: Context, caller: Identity, manager: Endpoint, target: Endpoint, submission: Submission
) -> None:
    command = {
        "command": "cmd_start_endpoint",
        "args": [],
        "kwargs": {
            "name": target.name,
            "user_opts": submission.user_endpoint_config or {},
            "user_runtime": submission.user_runtime or {},
            "amqp_creds": context.topology.credentials(target),
        },
        "globus_username": caller.username,
        "globus_effective_identity": caller.id,
        "globus_identity_set": caller.identity_set(),
    }
    properties = {"content_type": "application/json", "timestamp": int(time.time())}
    queue = command_queue(manager.id)
    if not await context.amqp.publish("", queue, json.dumps(command).encode(), **properties):
        raise _UndeliverableError(manager, queue)


async def _publish_task(context: Context, target: Endpoint, task: str, call: _Call, submission: Submission) -> None:
    # The endpoint unpacks three buffers: the function, the arguments, the keyword arguments.
    message = TaskMessage(task_id=uuid.UUID(task), task_buffer=call.function.code + call.payload)
    headers = {
        "function_uuid": call.function.id,
        "task_uuid": task,
        "resource_specification": json.dumps(submission.resource_specification),
        "result_serializers": submission.result_serializers or [],
    }
    queue = task_queue(target.id)
    if not await context.amqp.publish("", queue, messagepack.pack(message), headers=headers):
        raise _UndeliverableError(target, queue)
