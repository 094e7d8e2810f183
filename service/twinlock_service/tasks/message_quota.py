"""How many messages that end no task an endpoint may send: with more, those of others would wait."""

from __future__ import annotations

import logging
import time
from collections import Counter

from twinlock_common.amqp.consumer import Message

from twinlock_service.context import Context
from twinlock_service.rabbitmq.management import ManagementError
from twinlock_service.rabbitmq.topology import endpoint_of

log = logging.getLogger(__name__)

MOST = 10_000
"""Messages a minute that end no task. Some are in order, such as status reports."""

UNIT = 8 * 1024
"""Bytes for which a message counts once more."""

MINUTE = 60.0


class MessageQuota:
    """The number of messages that each endpoint sent in this minute."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._repeated: set[str] = set()
        self._minute = 0.0

    def repeated(self, task: str) -> bool:
        """Record a result for a task that had ended. Return whether one has come for it before in this minute.

        Once is in order: after a lost connection an endpoint sends again what RabbitMQ had not confirmed.
        """
        self._begin_minute()
        known = task in self._repeated
        self._repeated.add(task)
        return known

    def too_many(self, endpoint: str, size: int) -> bool:
        """Count a message of `size` bytes that ends no task. Return True, once a minute, if it is one too many."""
        self._begin_minute()
        before = self._counts[endpoint]
        self._counts[endpoint] += 1 + size // UNIT
        return before <= MOST < self._counts[endpoint]

    def _begin_minute(self) -> None:
        minute = time.monotonic() // MINUTE
        if minute != self._minute:
            self._counts.clear()
            self._repeated.clear()
            self._minute = minute


async def charge(context: Context, quota: MessageQuota, delivery: Message) -> None:
    """Count a message that ends no task; cut off its sender if there are too many."""
    origin = endpoint_of(delivery.exchange)
    if origin is not None and quota.too_many(origin, len(delivery.body)):
        await _cut_off(context, origin)


async def _cut_off(context: Context, endpoint_id: str) -> None:
    """Close an endpoint's connections, and keep it away until it is told its new password."""
    endpoint = context.endpoints.get(endpoint_id)
    if endpoint is None:
        return
    log.warning("endpoint %s sent too many messages that end no task; it is cut off", endpoint.id)
    context.topology.forget(endpoint)
    locked = context.endpoints.lock(endpoint.id)
    try:
        await context.topology.endpoint(locked)
        await context.topology.disconnect(locked)
    except ManagementError as error:
        log.warning("the connections of endpoint %s can't be closed: %s", endpoint.id, error)
