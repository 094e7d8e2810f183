"""The tasks from the queue, and their acknowledgements."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pika.channel import Channel
from pika.spec import Basic, BasicProperties

from twinlock_endpoint.queues.acks import Acks

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message as it was delivered. Channel and tag say how to acknowledge it, for as long as that channel lives."""

    channel: Channel = field(repr=False)
    tag: int
    headers: dict[str, Any]
    body: bytes = field(repr=False)


class TaskConsumer:
    """A channel user that consumes one queue, with at most `prefetch` deliveries unacknowledged."""

    def __init__(
        self,
        queue: str,
        prefetch: int,
        on_delivery: Callable[[Delivery], None],
        on_ready: Callable[[], None],
        on_lost: Callable[[], None],
    ) -> None:
        """Prepare to consume the queue.

        `on_ready` is called when tasks come from now on; `on_lost` when what was delivered and not acknowledged will
        come again.
        """
        self.queue = queue
        """The queue that is consumed; a new name counts from the next channel on."""
        self._prefetch = prefetch
        self._on_delivery = on_delivery
        self._on_ready = on_ready
        self._on_lost = on_lost
        self._wanted = False
        self._channel: Channel | None = None
        self._acks: Acks
        self._tag: str | None = None

    def begin(self) -> None:
        """Take tasks from now on, or from when there is a connection."""
        self._wanted = True
        self._consume()

    def end(self) -> None:
        """Ask for no more tasks; those that are on their way may still arrive."""
        self._wanted = False
        if self._tag is not None and self._channel is not None and self._channel.is_open:
            self._channel.basic_cancel(self._tag)

    def pause(self, paused: Callable[[], None]) -> None:
        """Ask for no more tasks for now; `paused` is called when none is on its way any more."""
        if self._tag is not None and self._channel is not None and self._channel.is_open:
            self._channel.basic_cancel(self._tag, callback=lambda _frame: paused())
            self._tag = None

    def resume(self, prefetch: int) -> None:
        """Take tasks again, with at most `prefetch` unacknowledged."""
        if self._channel is not None and self._channel.is_open:
            self._channel.basic_qos(prefetch_count=min(prefetch, self._prefetch))
            self._consume()

    def opened(self, channel: Channel) -> None:
        """Use this channel, and consume on it if tasks are wanted."""
        self._channel, self._acks = channel, Acks(channel)
        channel.basic_qos(prefetch_count=self._prefetch)
        self._consume()

    def refused(self, reason: BaseException) -> bool:
        """Return False: a consumer has no messages that RabbitMQ could refuse."""
        return False

    def closed(self, reason: BaseException) -> None:
        """Forget the channel, and report that its deliveries are lost."""
        self._channel = self._tag = None
        self._on_lost()

    def ack(self, delivery: Delivery) -> None:
        """Have the queue forget this message.

        Once the message's channel is lost the queue can't be told, and the message comes again.
        """
        if self._current(delivery):
            self._acks.add(delivery.tag)

    def reject(self, delivery: Delivery) -> None:
        """Have the queue drop this message, or hand it to its dead-letter exchange."""
        if self._current(delivery):
            self._acks.reject(delivery.tag, requeue=False)

    def requeue(self, delivery: Delivery) -> None:
        """Have the queue deliver this message once more, some time."""
        if self._current(delivery):
            self._acks.reject(delivery.tag, requeue=True)

    def _consume(self) -> None:
        if self._wanted and self._channel is not None and self._channel.is_open:
            self._tag = self._channel.basic_consume(self.queue, self._deliver, callback=lambda _frame: self._on_ready())

    def _current(self, delivery: Delivery) -> bool:
        return self._channel is not None and delivery.channel is self._channel and bool(self._channel.is_open)

    def _deliver(self, channel: Channel, method: Basic.Deliver, properties: BasicProperties, body: bytes) -> None:
        try:
            self._on_delivery(Delivery(channel, method.delivery_tag, properties.headers or {}, body))
        except Exception:
            # An exception here would end the connection, and the message would come back and do it again.
            log.exception("A message could not be handled; it stays in the queue until this endpoint ends")
