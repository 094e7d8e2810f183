"""The way of results to the SDK: into the queue of their task group.

New results go at once, everything else in the background, also after a restart and when RabbitMQ was away.
"""

from __future__ import annotations

import asyncio
import logging

from globus_compute_common import messagepack
from twinlock_common.amqp.errors import LinkError, RefusedMessageError

from twinlock_service.context import Context
from twinlock_service.rabbitmq.client import BATCH
from twinlock_service.rabbitmq.topology import result_prefix
from twinlock_service.state.database import transaction
from twinlock_service.tasks.failures import failed_result

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
"""How long the results that could not be offered wait."""

FAILURE_SECONDS = 30.0
"""The same where the reason isn't RabbitMQ but an unexpected one, which is logged each time."""


async def forward(context: Context) -> None:
    """Offer every result that was not offered yet to the queue of its task group, if there is one."""
    while waiting := context.tasks.unforwarded(BATCH):
        await offer(context, waiting)


async def forward_backlog(context: Context) -> None:
    """Offer the results that wait, at the start and whenever `backlog` is set, until this is cancelled."""
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


async def offer(context: Context, tasks: list[str]) -> None:
    """Offer the results of tasks that were not offered yet.

    Raise `LinkError` if some could not be offered and still wait.
    """
    async with context.forwarding:
        waiting = [task for task in tasks if context.tasks.is_unforwarded(task)]
        await asyncio.gather(*(_offer_one(context, task) for task in waiting))
        with transaction(context.db):
            context.tasks.mark_forwarded(waiting)


async def _offer_one(context: Context, task_id: str) -> None:
    task = context.tasks.get(task_id)
    if task is None or task.result is None or task.completed is None:
        raise LookupError(f"task {task_id} has no result")
    queue = result_prefix(task.owner) + task.group_id
    # The SDK shows the timestamp as the time when the task failed.
    try:
        await context.amqp.publish("", queue, task.result, timestamp=int(task.completed))
    except RefusedMessageError as error:
        log.error("task %s: %s", task.id, error)
        short = messagepack.pack(failed_result(task.id, f"The result can't be sent: {error}"))
        await context.amqp.publish("", queue, short, timestamp=int(task.completed))
