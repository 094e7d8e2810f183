"""What is done with the messages of the service's queues, each batch before RabbitMQ gets its acknowledgement."""

from __future__ import annotations

from functools import partial

from twinlock_service.context import Context
from twinlock_service.rabbitmq.client import Handler
from twinlock_service.rabbitmq.topology import HEARTBEATS, RESULTS
from twinlock_service.tasks.message_quota import MessageQuota
from twinlock_service.tasks.results import take_results
from twinlock_service.tasks.status_reports import take_status_reports


def handlers(context: Context) -> dict[str, Handler]:
    """Return, by queue, what handles its messages."""
    quota = MessageQuota()
    return {RESULTS: partial(take_results, context, quota), HEARTBEATS: partial(take_status_reports, context, quota)}
