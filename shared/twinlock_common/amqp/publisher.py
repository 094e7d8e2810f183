"""The messages that are published over one connection, and what becomes of each."""

import asyncio
import logging
import sys
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from pika.channel import Channel
from pika.spec import Basic, BasicProperties

from twinlock_common.amqp.envelope import Envelope, number_of
from twinlock_common.amqp.errors import LinkError, NotTaken, RefusedMessageError, Suspect
from twinlock_common.amqp.refusals import Refusal, refusal

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Message:
    envelope: Envelope
    body: bytes = field(repr=False)
    is_suspect: bool
    """It may be the one that RabbitMQ refuses, so it is sent only while no other is on its way."""
    done: asyncio.Future[None]
    returned: str = ""
    """Why RabbitMQ has returned it; empty if it hasn't."""


class Publisher:
    """The published messages of one connection, in order. It has one channel after the other.

    RabbitMQ closes the channel over a message that it will never accept, and doesn't say which one it was. So those
    that weren't confirmed by then are suspects: they are sent once more, one by one, each confirmed before the next.
    One that is refused while no other is on its way is refused for good. If the reason was its size, so are all that
    are at least as large, until the connection ends.
    """

    def __init__(self) -> None:
        self._channel: Channel | None = None
        self._waiting: deque[_Message] = deque()
        self._unconfirmed: dict[int, _Message] = {}
        self._published = 0
        self._one_by_one = False
        """Whether the message that was sent last is a suspect."""
        self._too_large = sys.maxsize
        """Bytes from which on a message is refused for good."""
        self._words = ""
        self._end: LinkError | None = None

    def publish(self, envelope: Envelope, body: bytes, *, is_suspect: bool = False) -> asyncio.Future[None]:
        """Publish a message, see `Link.publish`."""
        message = _Message(envelope, body, is_suspect, asyncio.get_running_loop().create_future())
        if self._end is not None:
            _fail(message, self._end)
        else:
            self._waiting.append(message)
            self._flush()
        return message.done

    def opened(self, channel: Channel) -> None:
        """Publish on this channel, which is new and in confirm mode, from now on."""
        channel.add_on_return_callback(self._returned)
        self._channel, self._published = channel, 0
        self._flush()

    def refused(self, reason: BaseException) -> bool:
        """Return whether the channel was closed over a message, so that another channel is needed."""
        told = refusal(reason)
        if told is None or not self._unconfirmed:
            return False
        self._channel = None
        if self._one_by_one:
            self._blame(told)
        else:
            log.warning("RabbitMQ refused one of %d messages: %s", len(self._unconfirmed), told.words)
        for message in self._unconfirmed.values():
            message.is_suspect = True
        self._take_back()
        return True

    def ended(self, reason: BaseException, error: LinkError) -> None:
        """Fail what isn't confirmed, with this error or as a suspect: the connection has ended, for this reason."""
        self.refused(reason)
        self._channel, self._end = None, error
        self._take_back()
        while self._waiting:
            message = self._waiting.popleft()
            _fail(message, Suspect(str(error)) if message.is_suspect else error)

    def confirmed(self, frame: Any) -> None:
        """Note that RabbitMQ has confirmed, or rejected, one message or all messages up to one."""
        method, last = frame.method, frame.method.delivery_tag
        for tag in [tag for tag in self._unconfirmed if tag <= last] if method.multiple else [last]:
            message = self._unconfirmed.pop(tag)
            if message.returned:
                _fail(message, NotTaken(f"no queue takes the message: {message.returned}"))
            elif isinstance(method, Basic.Nack):
                _fail(message, NotTaken("RabbitMQ didn't take the message"))
            elif not message.done.done():
                message.done.set_result(None)
        if self._waiting:
            self._flush()

    def _returned(self, _channel: Channel, method: Basic.Return, properties: BasicProperties, _body: bytes) -> None:
        """Note that a message found no queue. RabbitMQ confirms it next, which alone would look like success."""
        self._unconfirmed[number_of(properties)].returned = str(method.reply_text)

    def _flush(self) -> None:
        while self._waiting and self._channel is not None and self._channel.is_open:
            message = self._waiting[0]
            if self._unconfirmed and (message.is_suspect or self._one_by_one):
                return
            self._waiting.popleft()
            if len(message.body) >= self._too_large:
                self._refuse(message)
            else:
                self._send(self._channel, message)

    def _send(self, channel: Channel, message: _Message) -> None:
        self._one_by_one = message.is_suspect
        message.returned = ""  # it may have been on the channel before this one
        self._published += 1
        self._unconfirmed[self._published] = message
        message.envelope.send(channel, message.body, self._published)

    def _take_back(self) -> None:
        self._waiting.extendleft(reversed(self._unconfirmed.values()))
        self._unconfirmed.clear()

    def _blame(self, told: Refusal) -> None:
        """Fail the only message that RabbitMQ can have meant."""
        _, message = self._unconfirmed.popitem()
        self._words = told.words
        if told.size:
            self._too_large = min(self._too_large, len(message.body))
        self._refuse(message)

    def _refuse(self, message: _Message) -> None:
        _fail(message, RefusedMessageError(len(message.body), self._words))


def _fail(message: _Message, error: LinkError | RefusedMessageError) -> None:
    if not message.done.done():
        message.done.set_exception(error)
        message.done.exception()  # whoever waits still gets it; if nobody does, asyncio needn't complain
