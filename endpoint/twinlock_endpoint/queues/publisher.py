"""Messages to publish, each kept until RabbitMQ has confirmed it."""

import asyncio
import logging
import sys
from collections import deque
from dataclasses import dataclass, field

from pika.channel import Channel
from pika.frame import Method
from pika.spec import Basic, BasicProperties
from twinlock_common.amqp.envelope import Envelope, number_of
from twinlock_common.amqp.errors import RefusedMessageError
from twinlock_common.amqp.refusals import refusal
from twinlock_common.queues import Destination

log = logging.getLogger(__name__)

_RETRY_S = 5.0
_FOR_GOOD = 2  # times that a message is refused while no other is on its way


@dataclass(slots=True)
class _Message:
    destination: Destination
    body: bytes = field(repr=False)
    lasting: bool
    done: asyncio.Future[None]
    returned: bool = False
    refusals: int = 0
    hopeless: bool = False


class Publisher:
    """A channel user with publisher confirms. Messages go out in order.

    After a reconnect those whose confirm is missing go out again: at least once, since the confirm alone may be lost.

    RabbitMQ closes the channel when it refuses a message, for example one that is too large, and doesn't say which it
    was. So the messages whose confirm is missing then are sent one by one, each confirmed before the next. A message
    that is refused twice while no other is on its way is refused for good. Where the reason was its size, all messages
    that are at least as large are refused with it, until the connection is lost.
    """

    def __init__(self) -> None:
        self._channel: Channel | None = None
        self._waiting: deque[_Message] = deque()
        self._unconfirmed: dict[int, _Message] = {}
        self._pending: set[asyncio.Future[None]] = set()
        self._published = 0
        self._envelopes: dict[int, tuple[Destination, Envelope]] = {}  # of this channel
        self._suspects = 0  # so many at the head of what waits are sent one by one
        self._too_large = sys.maxsize  # bytes, from which on a message is refused for good
        self._words = ""

    def publish(self, destination: Destination, body: bytes) -> asyncio.Future[None]:
        """Publish now or as soon as there is a connection. The future is done when the message is safe.

        It fails with `RefusedMessageError` if RabbitMQ will never accept the message.
        """
        return self._accept(destination, body, lasting=True)

    def offer(self, destination: Destination, body: bytes) -> asyncio.Future[None] | None:
        """Publish if there is a connection; what is lost with the connection stays lost, its future cancelled."""
        return self._accept(destination, body, lasting=False) if self._channel is not None else None

    async def drain(self, limit_s: float) -> bool:
        """Wait until everything is confirmed, at most `limit_s` seconds; return False if something is left."""
        if self._pending:
            await asyncio.wait(list(self._pending), timeout=limit_s)
        return not self._pending

    def opened(self, channel: Channel) -> None:
        """Have RabbitMQ confirm messages on this channel, then send what waits."""
        channel.add_on_return_callback(self._returned)
        channel.confirm_delivery(self._confirmed, callback=lambda _frame: self._ready(channel))

    def refused(self, reason: BaseException) -> bool:
        """Return whether RabbitMQ closed the channel because it refuses a message of this publisher."""
        told = refusal(reason)
        if told is None or not self._unconfirmed:
            return False
        self._words = told.words
        if len(self._unconfirmed) == 1:
            self._blame(next(iter(self._unconfirmed.values())), told.size)
        else:
            log.warning("RabbitMQ refused one of %d messages: %s", len(self._unconfirmed), told.words)
            self._suspects = sum(message.lasting for message in self._unconfirmed.values())
        self._take_back()
        return True

    def closed(self, reason: BaseException) -> None:
        """Keep what wasn't confirmed for the next connection."""
        if not self.refused(reason):
            self._too_large = sys.maxsize  # it may be another RabbitMQ, or one with another limit, that comes back
            self._take_back()

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

    def _blame(self, message: _Message, size: bool) -> None:
        """Count a refusal of the only message that RabbitMQ can have meant."""
        message.refusals += 1
        message.hopeless = message.refusals >= _FOR_GOOD or not message.lasting
        if message.hopeless and size:
            self._too_large = min(self._too_large, len(message.body))
        self._suspects = max(self._suspects, int(message.lasting))

    def _take_back(self) -> None:
        """Have what wasn't confirmed on the channel, which is gone, wait for the next one; what may be lost is lost."""
        self._channel = None
        again = [message for message in self._unconfirmed.values() if message.lasting]
        for message in self._unconfirmed.values():
            if not message.lasting:
                message.done.cancel()
        self._unconfirmed.clear()
        self._waiting.extendleft(reversed(again))

    def _refuse(self, message: _Message) -> None:
        error = RefusedMessageError(len(message.body), self._words)
        log.error("A message is given up: %s", error)
        self._suspects = max(0, self._suspects - 1)
        if not message.lasting:
            message.done.cancel()
        elif not message.done.done():
            message.done.set_exception(error)

    def _flush(self) -> None:
        while self._waiting and self._channel is not None and self._channel.is_open:
            if self._suspects and self._unconfirmed:
                return
            message = self._waiting.popleft()
            if message.hopeless or len(message.body) >= self._too_large:
                self._refuse(message)
                continue
            message.returned = False
            self._published += 1
            self._unconfirmed[self._published] = message
            self._envelope(message.destination).send(self._channel, message.body, self._published)

    def _envelope(self, destination: Destination) -> Envelope:
        known = self._envelopes.get(id(destination))
        if known is None or known[0] is not destination:
            known = self._envelopes[id(destination)] = (
                destination,
                Envelope(**{"mandatory": False} | destination.publish),
            )
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
        if self._suspects:
            self._suspects -= 1
            self._flush()

    def _returned(self, _channel: Channel, method: Basic.Return, properties: BasicProperties, _body: bytes) -> None:
        """Note that a message is unroutable.

        The return comes just before the confirm of the same message, which will look like success.
        """
        log.error("A message found no queue (%s), next try in %.0f s", method.reply_text, _RETRY_S)
        self._unconfirmed[number_of(properties)].returned = True

    def _again_later(self, message: _Message) -> None:
        if not message.lasting:
            message.done.cancel()
            return
        asyncio.get_running_loop().call_later(_RETRY_S, self._requeue, message)

    def _requeue(self, message: _Message) -> None:
        self._waiting.append(message)
        self._flush()
