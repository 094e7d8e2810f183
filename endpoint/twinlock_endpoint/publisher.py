"""Publishes messages and keeps each until the queue's broker has confirmed it."""

import asyncio
import logging
from collections import deque
from dataclasses import dataclass, field

from pika.channel import Channel
from pika.frame import Method
from pika.spec import Basic, BasicProperties

from twinlock_endpoint.document import Destination
from twinlock_endpoint.envelope import Envelope

log = logging.getLogger(__name__)

_RETRY_S = 5.0


@dataclass(slots=True)
class _Message:
    destination: Destination
    body: bytes = field(repr=False)
    lasting: bool
    done: asyncio.Future[None]
    returned: bool = False


class Publisher:
    """A channel user with publisher confirms. Messages go out in order.

    After a reconnect those whose confirm is missing go out again: at least once, since the confirm alone may be lost.
    """

    def __init__(self) -> None:
        self._channel: Channel | None = None
        self._waiting: deque[_Message] = deque()
        self._unconfirmed: dict[int, _Message] = {}
        self._pending: set[asyncio.Future[None]] = set()
        self._published = 0
        self._envelopes: dict[int, tuple[Destination, Envelope]] = {}  # of this channel

    def publish(self, destination: Destination, body: bytes) -> asyncio.Future[None]:
        """Publish now or as soon as there is a connection. The future is done when the message is safe."""
        return self._accept(destination, body, lasting=True)

    def offer(self, destination: Destination, body: bytes) -> asyncio.Future[None] | None:
        """Publish if there is a connection; what is lost with the connection stays lost, its future cancelled."""
        return self._accept(destination, body, lasting=False) if self._channel is not None else None

    async def drain(self, limit_s: float) -> bool:
        """Wait until everything is confirmed, at most `limit_s` seconds; False when something is left."""
        if self._pending:
            await asyncio.wait(list(self._pending), timeout=limit_s)
        return not self._pending

    def opened(self, channel: Channel) -> None:
        channel.add_on_return_callback(self._returned)
        channel.confirm_delivery(self._confirmed, callback=lambda _frame: self._ready(channel))

    def closed(self) -> None:
        self._channel = None
        again = [message for message in self._unconfirmed.values() if message.lasting]
        for message in self._unconfirmed.values():
            if not message.lasting:
                message.done.cancel()
        self._unconfirmed.clear()
        self._waiting.extendleft(reversed(again))

    def _accept(self, destination: Destination, body: bytes, *, lasting: bool) -> asyncio.Future[None]:
        message = _Message(destination, body, lasting, asyncio.get_running_loop().create_future())
        self._pending.add(message.done)
        message.done.add_done_callback(self._pending.discard)
        self._waiting.append(message)
        self._flush()
        return message.done

    def _ready(self, channel: Channel) -> None:
        self._channel, self._published = channel, 0
        self._envelopes.clear()
        self._flush()

    def _flush(self) -> None:
        while self._channel is not None and self._channel.is_open and self._waiting:
            message = self._waiting.popleft()
            message.returned = False
            self._published += 1
            self._unconfirmed[self._published] = message
            self._envelope(message.destination).send(message.body)

    def _envelope(self, destination: Destination) -> Envelope:
        known = self._envelopes.get(id(destination))
        if known is None or known[0] is not destination:
            known = self._envelopes[id(destination)] = destination, Envelope(self._channel, destination.publish)
        return known[1]

    def _confirmed(self, frame: Method[Basic.Ack | Basic.Nack]) -> None:
        confirm = frame.method
        last = confirm.delivery_tag
        tags = [tag for tag in self._unconfirmed if tag <= last] if confirm.multiple else [last]
        for tag in tags:
            message = self._unconfirmed.pop(tag)
            if isinstance(confirm, Basic.Nack) or message.returned:
                self._again_later(message)
            elif not message.done.done():
                message.done.set_result(None)

    def _returned(self, _channel: Channel, method: Basic.Return, _properties: BasicProperties, body: bytes) -> None:
        "Unroutable: the return comes just before the confirm of the same message, which will look like success."
        log.error("A message found no queue (%s), next try in %.0f s", method.reply_text, _RETRY_S)
        for message in self._unconfirmed.values():
            if not message.returned and message.body == body:
                message.returned = True
                return

    def _again_later(self, message: _Message) -> None:
        if not message.lasting:
            message.done.cancel()
            return
        asyncio.get_running_loop().call_later(_RETRY_S, self._requeue, message)

    def _requeue(self, message: _Message) -> None:
        self._waiting.append(message)
        self._flush()
