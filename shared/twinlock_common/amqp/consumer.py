"""The messages of a queue, and their acknowledgements; those of one turn of the loop are sent together."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from pika.channel import Channel
from pika.spec import Basic, BasicProperties

log = logging.getLogger(__name__)

Ask = Callable[[Callable[[Callable[[Any], None]], Any]], Awaitable[Any]]
"""Makes a call of pika's that answers by a callback, and returns the answer."""


class Acks:
    """The deliveries of one channel to acknowledge.

    One `basic.ack` is sent for all up to the last before which none is open, and one each for the others. Once the
    channel has ended nothing is sent: RabbitMQ delivers again what wasn't acknowledged.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._next = 1  # the first that isn't settled; a channel counts its deliveries from 1
        self._settled: set[int] = set()
        self._new: list[int] = []

    def add(self, tag: int) -> None:
        """Acknowledge this delivery before long."""
        self._settled.add(tag)
        self._new.append(tag)
        if len(self._new) == 1:
            asyncio.get_running_loop().call_soon(self._flush)

    def reject(self, tag: int, *, requeue: bool) -> None:
        """Refuse this delivery, at once."""
        self._settled.add(tag)
        if self._channel.is_open:
            self._channel.basic_reject(tag, requeue=requeue)

    def _flush(self) -> None:
        new, self._new = sorted(self._new), []
        while self._next in self._settled:
            self._settled.remove(self._next)
            self._next += 1
        if not self._channel.is_open:
            return
        # RabbitMQ closes the channel over a tag that was settled before, so the last new one stands for all up to it.
        together = [tag for tag in new if tag < self._next]
        if together:
            self._channel.basic_ack(together[-1], multiple=True)
        for tag in new[len(together) :]:
            self._channel.basic_ack(tag)


@dataclass(slots=True)
class Message:
    """A message as it was delivered."""

    acks: Acks = field(repr=False)
    """The acknowledgements of the channel that it came on."""
    tag: int
    """Its number on that channel (AMQP's delivery tag)."""
    body: bytes = field(repr=False)
    """Its content."""
    properties: BasicProperties = field(default_factory=BasicProperties, repr=False)
    """AMQP's own, as the sender set them: headers, content_type, timestamp in seconds since 1970."""
    exchange: str = ""
    """The exchange that it was published to."""
    redelivered: bool = False
    """It was delivered before, and not acknowledged."""

    def ack(self) -> None:
        """Acknowledge the message: the queue may forget it."""
        self.acks.add(self.tag)

    def reject(self) -> None:
        """Have the queue drop it, or pass it to its dead-letter exchange."""
        self.acks.reject(self.tag, requeue=False)

    def requeue(self) -> None:
        """Have the queue deliver it again later."""
        self.acks.reject(self.tag, requeue=True)


class Consumer:
    """A subscription to a queue, on a channel of its own: `receive` is called with each message."""

    def __init__(self, channel: Channel, ask: Ask, queue: str, receive: Callable[[Message], None]) -> None:
        self._channel = channel
        self._ask = ask
        self._queue = queue
        self._receive = receive
        self._acks = Acks(channel)
        self._tag = ""
        self.is_started = False
        """Whether messages are asked for."""

    async def start(self, prefetch: int) -> None:
        """Receive messages, at most `prefetch` of them unacknowledged at a time. Raise `LinkError`."""
        self.is_started = True
        await self._ask(lambda done: self._channel.basic_qos(prefetch_count=prefetch, callback=done))
        started = await self._ask(lambda done: self._channel.basic_consume(self._queue, self._deliver, callback=done))
        self._tag = str(started.method.consumer_tag)

    async def stop(self) -> None:
        """Receive no more messages, and wait until none is on its way. Raise `LinkError`."""
        self.is_started = False
        await self._ask(lambda done: self._channel.basic_cancel(self._tag, callback=done))

    def _deliver(self, _channel: Channel, method: Basic.Deliver, properties: BasicProperties, body: bytes) -> None:
        message = Message(self._acks, method.delivery_tag, body, properties, method.exchange, method.redelivered)
        try:
            self._receive(message)
        except Exception:
            # An exception here would end the connection, and the message would come back and do it again.
            log.exception("A message could not be handled; it stays in the queue until the connection ends")
