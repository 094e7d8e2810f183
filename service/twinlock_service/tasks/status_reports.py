"""The status reports that endpoints send: heartbeats, and notices that they failed to start."""

from __future__ import annotations

import json
import logging
from typing import Any

from globus_compute_common.messagepack.message_types import EPStatusReport
from twinlock_common.amqp.consumer import Message

from twinlock_service.context import Context
from twinlock_service.limits.chunks import TimeSlice
from twinlock_service.rabbitmq.management import ManagementError
from twinlock_service.rabbitmq.topology import endpoint_of
from twinlock_service.tasks.endpoint_messages import read_report, warn
from twinlock_service.tasks.failures import fail_outstanding
from twinlock_service.tasks.message_quota import MessageQuota, charge

log = logging.getLogger(__name__)

DEFAULT_PERIOD = 30.0
"""Seconds between heartbeats where a report doesn't say."""

LONGEST_PERIOD = 24 * 3600.0
"""Seconds between heartbeats, at most."""

MAX_TEXT = 8 * 1024
"""Characters of a failure notice, which becomes the result of each task that the endpoint owes."""


async def take_status_reports(context: Context, quota: MessageQuota, batch: list[Message]) -> None:
    """Record heartbeats, and end the tasks of endpoints that say that they could not start."""
    time_slice = TimeSlice()
    for delivery in batch:
        await time_slice.pause()
        await charge(context, quota, delivery)
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
    log.warning("endpoint %s failed to start; %d tasks ended", origin, count)


def _period(state: dict[str, Any]) -> float:
    if state.get("active") is False:
        return 0.0
    period = state.get("heartbeat_period")
    # The comparison also keeps out NaN and what is too big for a float.
    return float(period) if isinstance(period, int | float) and 0 <= period <= LONGEST_PERIOD else DEFAULT_PERIOD


async def _discard_tasks(context: Context, endpoint: str) -> None:
    # Without this, a later start of the endpoint would run tasks that have already failed.
    try:
        await context.topology.discard_tasks(endpoint)
    except ManagementError as error:
        log.warning("tasks that wait for endpoint %s stay in its queue: %s", endpoint, error)
