"""The results that endpoints send: recorded, then offered to the SDK."""

from __future__ import annotations

from twinlock_common.amqp.consumer import Message

from twinlock_service.context import Context
from twinlock_service.limits.chunks import TimeSlice
from twinlock_service.rabbitmq.topology import endpoint_of
from twinlock_service.state.database import transaction
from twinlock_service.state.tasks import Status
from twinlock_service.tasks.endpoint_messages import read_result, warn
from twinlock_service.tasks.forwarding import offer
from twinlock_service.tasks.message_quota import MessageQuota, charge


async def take_results(context: Context, quota: MessageQuota, batch: list[Message]) -> None:
    """Record results of tasks, and offer them to the SDK."""
    results, time_slice = [], TimeSlice()
    for delivery in batch:
        results.append((delivery, await _ended(context, delivery)))
        await time_slice.pause()
    new, useless = [], []
    with transaction(context.db):
        for delivery, end in results:
            if end is not None and context.tasks.finish(*end):
                new.append(end[0])
            elif end is None or quota.repeated(end[0]):
                useless.append(delivery)
    try:
        await offer(context, new)
    except BaseException:  # also what cancels this: the end of the connection
        context.backlog.set()
        raise
    for delivery in useless:
        await charge(context, quota, delivery)


async def _ended(context: Context, delivery: Message) -> tuple[str, Status, bytes] | None:
    """Return the task that a message ends, how it ended, and its result; None if it ends none of its sender's tasks."""
    found = await read_result(delivery)
    if found is None:
        return None
    result, body = found
    task = context.tasks.get(str(result.task_id))
    if task is None or task.endpoint_id != endpoint_of(delivery.exchange):
        warn(delivery, "sent a result for task %s, which is not its own; ignored", result.task_id)
        return None
    return task.id, "failed" if result.is_error else "success", body
