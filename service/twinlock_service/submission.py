"""A submission's way from the SDK to an endpoint: its function, its endpoint, the command, the tasks."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from dataclasses import dataclass
from typing import Any

from globus_compute_common import messagepack
from globus_compute_common.messagepack.message_types import Task as TaskMessage

from twinlock_service.access import find_function, usable_endpoint
from twinlock_service.amqp import AmqpDownError
from twinlock_service.context import Context
from twinlock_service.database import transaction
from twinlock_service.endpoints import Endpoint
from twinlock_service.errors import ApiError, Code
from twinlock_service.functions import Function
from twinlock_service.models import MAX_OPTIONS, Submission
from twinlock_service.publishing import MessageRefusedError
from twinlock_service.topology import command_queue, task_queue
from twinlock_service.users import Identity


@dataclass(frozen=True, slots=True)
class _Call:
    """One task: the function and its packed arguments."""

    task: str
    function: Function
    payload: str


async def submit(context: Context, caller: Identity, endpoint_id: str, submission: Submission) -> dict[str, Any]:
    """
    Hands the tasks of a submission to an endpoint; where that is a manager endpoint, to the caller's user endpoint
    for this configuration, after a command to start it.

    When it returns the answer, the tasks are recorded and in RabbitMQ. ApiError: none of them is.
    """
    endpoint = usable_endpoint(context, caller, endpoint_id)
    _check_options(submission)
    functions = [_runnable(context, caller, endpoint, str(each)) for each in submission.tasks]
    group = _group(context, caller, submission.task_group_id)
    target = await _target(context, caller, endpoint, submission)
    if submission.create_queue:
        await context.topology.result_queue(caller.id, group)
    wanted = list(zip(functions, submission.tasks.values(), strict=True))
    async with context.queues[target.id]:
        calls = _record(context, caller, target, group, wanted)
        try:
            await _publish(context, caller, endpoint, target, submission, calls)
        except BaseException:
            # Also when the service is being stopped: nobody was told of these tasks, so nobody waits for them.
            context.tasks.forget(call.task for call in calls)
            raise
    tasks: dict[str, list[str]] = {}
    for call in calls:
        tasks.setdefault(call.function.id, []).append(call.task)
    return {"request_id": str(uuid.uuid4()), "task_group_id": group, "endpoint_id": endpoint.id, "tasks": tasks}


class _UndeliverableError(Exception):
    """A queue of the endpoint is missing."""

    def __init__(self, endpoint: Endpoint, queue: str) -> None:
        super().__init__(f"RabbitMQ has lost the queue {queue}; try again, and it will be made anew")
        self.endpoint = endpoint


def _check_options(submission: Submission) -> None:
    size = len(json.dumps([submission.user_endpoint_config, submission.user_runtime]))
    if size > MAX_OPTIONS:
        text = f"user_endpoint_config and user_runtime have {size:,} bytes as JSON; at most {MAX_OPTIONS:,} are allowed"
        raise ApiError(413, Code.REQUEST_MALFORMED, text)


def _runnable(context: Context, caller: Identity, endpoint: Endpoint, function_id: str) -> Function:
    function = find_function(context, caller, function_id)
    if endpoint.allowed_functions is not None and function.id not in endpoint.allowed_functions:
        text = f"Function {function.id} not permitted on endpoint {endpoint.id}"
        raise ApiError(403, Code.FUNCTION_NOT_PERMITTED, text)
    return function


def _group(context: Context, caller: Identity, group: uuid.UUID | None) -> str:
    if group is None:
        return context.tasks.new_group(caller.id)
    if context.tasks.group_owner(str(group)) != caller.id:
        raise ApiError(404, Code.TASK_GROUP_NOT_FOUND, f"you have no task group {group}")
    return str(group)


async def _target(context: Context, caller: Identity, endpoint: Endpoint, submission: Submission) -> Endpoint:
    await context.topology.endpoint(endpoint)
    if endpoint.kind != "manager":
        return endpoint
    target = context.endpoints.user_endpoint(endpoint.id, caller.id, submission.user_endpoint_config or {})
    await context.topology.endpoint(target)
    return target


def _record(
    context: Context, caller: Identity, target: Endpoint, group: str, wanted: list[tuple[Function, list[str]]]
) -> list[_Call]:
    with transaction(context.db):
        return [
            _Call(context.tasks.add(group, caller.id, target.id, function.id), function, payload)
            for function, payloads in wanted
            for payload in payloads
        ]


async def _publish(
    context: Context, caller: Identity, endpoint: Endpoint, target: Endpoint, submission: Submission, calls: list[_Call]
) -> None:
    try:
        if target is not endpoint:
            await _publish_command(context, caller, endpoint, target, submission)
        await asyncio.gather(*(_publish_task(context, target, call, submission) for call in calls))
    except _UndeliverableError as error:
        context.topology.forget(error.endpoint)
        raise ApiError(503, Code.INTERNAL_ERROR, str(error)) from None
    except MessageRefusedError as error:
        raise ApiError(413, Code.REQUEST_MALFORMED, f"a task or its options are too large: {error}") from None
    except AmqpDownError as error:
        raise ApiError(503, Code.INTERNAL_ERROR, f"the tasks can't be queued now: {error}; try again") from None


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


async def _publish_task(context: Context, target: Endpoint, call: _Call, submission: Submission) -> None:
    # The endpoint unpacks three buffers: the function, the arguments, the keyword arguments.
    message = TaskMessage(task_id=uuid.UUID(call.task), task_buffer=call.function.code + call.payload)
    headers = {
        "function_uuid": call.function.id,
        "task_uuid": call.task,
        "resource_specification": json.dumps(submission.resource_specification),
        "result_serializers": submission.result_serializers or [],
    }
    queue = task_queue(target.id)
    if not await context.amqp.publish("", queue, messagepack.pack(message), headers=headers):
        raise _UndeliverableError(target, queue)
