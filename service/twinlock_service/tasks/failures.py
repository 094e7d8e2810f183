"""Tasks that fail although no endpoint said so: the result that they get."""

from __future__ import annotations

import asyncio
import uuid

from globus_compute_common import messagepack
from globus_compute_common.messagepack.message_types import Result, ResultErrorDetails

from twinlock_service.context import Context
from twinlock_service.state.database import transaction

ENDPOINT_FAILED = "ENDPOINT_FAILED"
"""The code in the result of a task that no endpoint ran, or whose result can't be taken."""

CHUNK = 100
"""How many tasks are ended before others get their turn."""


def failed_result(task_id: str, text: str) -> Result:
    """Return the result of a task that its endpoint did not end."""
    details = ResultErrorDetails(code=ENDPOINT_FAILED, user_message=text)
    return Result(task_id=uuid.UUID(task_id), data=text, error_details=details)


async def fail_outstanding(context: Context, endpoint: str, text: str) -> int:
    """End the tasks of an endpoint that have no result yet with this text, and return their number."""
    count = 0
    while tasks := context.tasks.outstanding(endpoint, CHUNK):
        with transaction(context.db):
            for task in tasks:
                context.tasks.finish(task, "failed", messagepack.pack(failed_result(task, text)))
        context.backlog.set()
        count += len(tasks)
        await asyncio.sleep(0)
    return count
