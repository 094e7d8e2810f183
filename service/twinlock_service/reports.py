"""
What endpoints send: results, heartbeats, notices that they failed to start.

Each batch is committed before RabbitMQ gets its acknowledgement. Then what is recorded is offered to the SDK: new
results at once, everything else in the background, also after a restart and when RabbitMQ was away.
"""

from __future__ import annotations

import asyncio
import json
import logging
from functools import partial
from typing import Any

from globus_compute_common import messagepack
from globus_compute_common.messagepack.message_types import EPStatusReport
from twinlock_common.amqp.errors import LinkError, RefusedMessageError
from twinlock_common.amqp.link import Message

from twinlock_service.context import Context
from twinlock_service.floods import Floods, cut_off
from twinlock_service.limits.chunks import TimeSlice
from twinlock_service.messages import MAX_TEXT, failed, read_report, read_result, warn
from twinlock_service.rabbitmq.client import BATCH, Handler
from twinlock_service.rabbitmq.management import ManagementError
from twinlock_service.rabbitmq.topology import HEARTBEATS, RESULTS, endpoint_of, result_prefix
from twinlock_service.state.database import transaction
from twinlock_service.state.tasks import Status

log = logging.getLogger(__name__)

DEFAULT_PERIOD = 30.0
"""Seconds between heartbeats where a report doesn't say."""

LONGEST_PERIOD = 24 * 3600.0
"""Seconds between heartbeats, at most."""

RETRY_SECONDS = 1.0
"""How long the results that could not be offered wait."""

FAILURE_SECONDS = 30.0
"""The same where the reason isn't RabbitMQ but an unexpected one, which is logged each time."""

CHUNK = 100
"""How many tasks are ended before others get their turn."""


def handlers(context: Context) -> dict[str, Handler]:
    """What is done with the messages of the service's queues."""
    floods = Floods()
    return {RESULTS: partial(take_results, context, floods), HEARTBEATS: partial(take_status_reports, context, floods)}


async def take_results(context: Context, floods: Floods, batch: list[Message]) -> None:
    """Records results of tasks and offers them to the SDK."""
    results, time_slice = [], TimeSlice()
    for delivery in batch:
        results.append((delivery, await _ended(context, delivery)))
        await time_slice.pause()
    new, useless = [], []
    with transaction(context.db):
        for delivery, end in results:
            if end is not None and context.tasks.finish(*end):
                new.append(end[0])
            elif end is None or floods.repeated(end[0]):
                useless.append(delivery)
    for delivery in useless:
        await _count(context, floods, delivery)
    try:
        await _offer_all(context, new)
    except LinkError:
        context.backlog.set()
        raise


async def take_status_reports(context: Context, floods: Floods, batch: list[Message]) -> None:
    """Records heartbeats; ends the tasks of endpoints that say that they could not start."""
    time_slice = TimeSlice()
    for delivery in batch:
        await time_slice.pause()
        await _count(context, floods, delivery)
        report = read_report(delivery)
        origin = endpoint_of(delivery.exchange)
        if report is None:
            continue
        if origin is None or str(report.endpoint_id) != origin:
            warn(delivery, "sent a status report that is not its own; ignored")
        elif error := report.global_state.get("error"):
            await _take_notice(context, origin, str(error), report)
        else:
            context.endpoints.reported(origin, _period(report.global_state), json.dumps(report.global_state))


async def fail_outstanding(context: Context, endpoint: str, text: str) -> int:
    """Ends the tasks that an endpoint owes with this text; gives their number. To be followed by `backlog.set()`."""
    count = 0
    while tasks := context.tasks.outstanding(endpoint, CHUNK):
        with transaction(context.db):
            for task in tasks:
                context.tasks.finish(task, "failed", messagepack.pack(failed(task, text)))
        count += len(tasks)
        await asyncio.sleep(0)
    return count


async def forward(context: Context) -> None:
    """Offers every result that was not offered yet to the queue of its task group, if there is one."""
    while waiting := context.tasks.unforwarded(BATCH):
        await _offer_all(context, waiting)


async def forward_backlog(context: Context) -> None:
    """Offers what waits, at the start and whenever `backlog` is set, until it is cancelled."""
    while True:
        context.backlog.clear()
        await context.amqp.connected()
        try:
            await forward(context)
        except LinkError:
            context.backlog.set()
            await asyncio.sleep(RETRY_SECONDS)
        except Exception:
            # A disk that is full for a while, for example: everybody's later results have to be offered.
            log.exception("results could not be offered; trying again in %.0f s", FAILURE_SECONDS)
            context.backlog.set()
            await asyncio.sleep(FAILURE_SECONDS)
        await context.backlog.wait()


async def _count(context: Context, floods: Floods, delivery: Message) -> None:
    """Count a message that ends no task; cut its sender off if there are too many."""
    origin = endpoint_of(delivery.exchange)
    if origin is not None and floods.too_many(origin, len(delivery.body)):
        await cut_off(context, origin)


async def _ended(context: Context, delivery: Message) -> tuple[str, Status, bytes] | None:
    """The task that a message ends, how it ended, and its result. None: it ends none of its sender's."""
    found = await read_result(delivery)
    if found is None:
        return None
    result, body = found
    task = context.tasks.get(str(result.task_id))
    if task is None or task.endpoint_id != endpoint_of(delivery.exchange):
        warn(delivery, f"sent a result for task {result.task_id}, which is not its own; ignored")
        return None
    return task.id, "failed" if result.is_error else "success", body


async def _take_notice(context: Context, origin: str, error: str, report: EPStatusReport) -> None:
    endpoint = context.endpoints.get(origin)
    if endpoint is None or endpoint.kind == "manager":
        # The agent's manager also sends one under its own name when a child of it fails, and lives on.
        return
    # The text becomes part of JSON messages, in which half a surrogate pair has no place.
    text = error[:MAX_TEXT].encode(errors="replace").decode()
    async with context.endpoint_locks[origin]:
        context.endpoints.reported(origin, 0.0, json.dumps(report.global_state))
        count = await fail_outstanding(context, origin, text)
        await _discard_tasks(context, origin)
    context.backlog.set()
    log.warning("endpoint %s failed to start; %d tasks ended", origin, count)


def _period(state: dict[str, Any]) -> float:
    if state.get("active") is False:
        return 0.0
    period = state.get("heartbeat_period")
    # The comparison also keeps out NaN and what is too big for a float.
    return float(period) if isinstance(period, int | float) and 0 <= period <= LONGEST_PERIOD else DEFAULT_PERIOD


async def _offer_all(context: Context, tasks: list[str]) -> None:
    """Offers the results of tasks that were not offered yet. LinkError: some were not, and still wait."""
    async with context.forwarding:
        waiting = [task for task in tasks if context.tasks.is_unforwarded(task)]
        await asyncio.gather(*(_offer(context, task) for task in waiting))
        with transaction(context.db):
            context.tasks.mark_forwarded(waiting)


async def _offer(context: Context, task_id: str) -> None:
    task = context.tasks.get(task_id)
    if task is None or task.result is None or task.completed is None:
        raise LookupError(f"task {task_id} has no result")
    queue = result_prefix(task.owner) + task.group_id
    # The SDK shows the timestamp as the time when the task failed.
    try:
        await context.amqp.publish("", queue, task.result, timestamp=int(task.completed))
    except RefusedMessageError as error:
        log.error("task %s: %s", task.id, error)
        short = messagepack.pack(failed(task.id, f"The result can't be sent: {error}"))
        await context.amqp.publish("", queue, short, timestamp=int(task.completed))


async def _discard_tasks(context: Context, endpoint: str) -> None:
    # Without this, a later start of the endpoint would run tasks that have already failed.
    try:
        await context.topology.discard_tasks(endpoint)
    except ManagementError as error:
        log.warning("tasks that wait for endpoint %s stay in its queue: %s", endpoint, error)
