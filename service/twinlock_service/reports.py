"""
What endpoints send: results, heartbeats, notices that they failed to start.

Each batch is committed first, then results are offered to the SDK, and only then RabbitMQ gets its acknowledgement;
after a crash in between RabbitMQ delivers again, and what is recorded but was not offered is offered then.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import uuid
from functools import partial
from typing import Any, TypeVar

from globus_compute_common import messagepack
from globus_compute_common.messagepack.message_types import EPStatusReport, Result, ResultErrorDetails

from twinlock_service.amqp import BATCH, AmqpDownError, Delivery, Handler
from twinlock_service.context import Context
from twinlock_service.database import transaction
from twinlock_service.management import ManagementError
from twinlock_service.publishing import MessageRefusedError
from twinlock_service.topology import HEARTBEATS, RESULTS, endpoint_of, result_prefix

log = logging.getLogger(__name__)

DEFAULT_PERIOD = 30.0
"""Seconds between heartbeats where a report doesn't say."""

LONGEST_PERIOD = 24 * 3600.0
"""Seconds between heartbeats, at most."""

ENDPOINT_FAILED = "ENDPOINT_FAILED"
"""The code in the result of a task that no endpoint ran."""

M = TypeVar("M", Result, EPStatusReport)


def handlers(context: Context) -> dict[str, Handler]:
    """What is done with the messages of the service's queues."""
    return {RESULTS: partial(take_results, context), HEARTBEATS: partial(take_status_reports, context)}


async def take_results(context: Context, batch: list[Delivery]) -> None:
    """Records results of tasks and offers them to the SDK."""
    with transaction(context.db):
        for delivery in batch:
            _record_result(context, delivery)
    await forward(context)


async def take_status_reports(context: Context, batch: list[Delivery]) -> None:
    """Records heartbeats; ends the tasks of endpoints that say that they could not start."""
    for delivery in batch:
        report = _unpack(delivery, EPStatusReport)
        origin = endpoint_of(delivery.exchange)
        if report is None:
            continue
        if origin is None or str(report.endpoint_id) != origin:
            log.warning("endpoint %s sent a status report that is not its own; ignored", origin)
        elif error := report.global_state.get("error"):
            await _take_notice(context, origin, str(error), report)
        else:
            context.endpoints.reported(origin, _period(report.global_state), _text(report.global_state))
    await forward(context)


async def forward(context: Context) -> None:
    """Offers every result that was not offered yet to the queue of its task group, if there is one."""
    async with context.forwarding:
        while waiting := context.tasks.unforwarded(BATCH):
            await asyncio.gather(*(_offer(context, task) for task in waiting))
            with transaction(context.db):
                context.tasks.mark_forwarded(waiting)


async def forward_soon(context: Context) -> None:
    """Offers what is to be offered if RabbitMQ is there; else it is done when RabbitMQ is back."""
    with contextlib.suppress(AmqpDownError):
        await forward(context)


def fail_outstanding(context: Context, endpoint: str, text: str) -> int:
    """Ends the tasks that an endpoint owes with this text; gives their number. To be followed by `forward`."""
    tasks = context.tasks.outstanding(endpoint)
    for task in tasks:
        context.tasks.finish(task, "failed", messagepack.pack(_failed(task, text)))
    return len(tasks)


def _record_result(context: Context, delivery: Delivery) -> None:
    origin = endpoint_of(delivery.exchange)
    result = _unpack(delivery, Result)
    if result is None:
        return
    task = context.tasks.get(str(result.task_id))
    if task is None or task.endpoint_id != origin:
        log.warning("endpoint %s sent a result for task %s, which is not its own; ignored", origin, result.task_id)
        return
    context.tasks.finish(task.id, "failed" if result.is_error else "success", delivery.body)


async def _take_notice(context: Context, origin: str, error: str, report: EPStatusReport) -> None:
    endpoint = context.endpoints.get(origin)
    if endpoint is None or endpoint.kind == "manager":
        # The agent's manager also sends one under its own name when a child of it fails, and lives on.
        return
    # The text becomes part of JSON messages, in which half a surrogate pair has no place.
    text = error.encode(errors="replace").decode()
    async with context.queues[origin]:
        with transaction(context.db):
            context.endpoints.reported(origin, 0.0, _text(report.global_state))
            count = fail_outstanding(context, origin, text)
        await _discard_tasks(context, origin)
    log.warning("endpoint %s failed to start; %d tasks ended", origin, count)


def _period(state: dict[str, Any]) -> float:
    if state.get("active") is False:
        return 0.0
    period = state.get("heartbeat_period")
    # The comparison also keeps out NaN and what is too big for a float.
    return float(period) if isinstance(period, int | float) and 0 <= period <= LONGEST_PERIOD else DEFAULT_PERIOD


def _text(state: dict[str, Any]) -> str:
    try:
        return json.dumps(state)
    except RecursionError:
        # It came nested almost too deeply to be read; so deeply it can't be written.
        return "{}"


def _unpack(delivery: Delivery, kind: type[M]) -> M | None:
    origin = endpoint_of(delivery.exchange)
    try:
        message = messagepack.unpack(delivery.body)
    # On hostile input the decoder raises ValueError, KeyError, RecursionError and more; nobody else may suffer from it.
    except Exception as error:
        log.warning("endpoint %s sent a message that can't be read (%s); ignored", origin, type(error).__name__)
        return None
    if not isinstance(message, kind):
        log.warning("endpoint %s sent a %s where a %s belongs; ignored", origin, message.message_type, kind.__name__)
        return None
    return message


async def _offer(context: Context, task_id: str) -> None:
    task = context.tasks.get(task_id)
    if task is None or task.result is None or task.completed is None:
        raise LookupError(f"task {task_id} has no result")
    queue = result_prefix(task.owner) + task.group_id
    # The SDK shows the timestamp as the time when the task failed.
    try:
        await context.amqp.publish("", queue, task.result, timestamp=int(task.completed))
    except MessageRefusedError as error:
        log.error("task %s: %s", task.id, error)
        short = messagepack.pack(_failed(task.id, f"The result can't be sent: {error}"))
        await context.amqp.publish("", queue, short, timestamp=int(task.completed))


def _failed(task_id: str, text: str) -> Result:
    details = ResultErrorDetails(code=ENDPOINT_FAILED, user_message=text)
    return Result(task_id=uuid.UUID(task_id), data=text, error_details=details)


async def _discard_tasks(context: Context, endpoint: str) -> None:
    # Without this, a later start of the endpoint would run tasks that have already failed.
    try:
        await context.topology.discard_tasks(endpoint)
    except ManagementError as error:
        log.warning("tasks that wait for endpoint %s stay in its queue: %s", endpoint, error)
