"""A channel on which messages are published with confirms."""

import asyncio
from typing import Any

import pika
from pika.exceptions import ChannelWrongStateError, ConnectionWrongStateError

from twinlock_common.amqp.errors import LinkError, NotTaken


class PublishingChannel:
    """The messages that are published on `channel`, which is open and in confirm mode."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self._confirms: dict[int, asyncio.Future[None]] = {}
        self._returned: dict[str, str] = {}
        self._published = 0
        channel.add_on_return_callback(self._note_return)

    @property
    def is_open(self) -> bool:
        """Whether anything can be published."""
        return bool(self._channel.is_open)

    def publish(self, exchange: str, routing_key: str, body: bytes, properties: dict[str, Any]) -> asyncio.Future[None]:
        """Publish a message and return a future that is done when RabbitMQ has the message in a queue.

        Both this call and the future raise `LinkError`.
        """
        number = self._published + 1
        # The id tells which message came back; RabbitMQ returns a message before it confirms it.
        full = pika.BasicProperties(message_id=str(number), **properties)
        try:
            self._channel.basic_publish(exchange, routing_key, body, full, mandatory=True)
        except (ChannelWrongStateError, ConnectionWrongStateError) as error:
            raise LinkError(f"can't publish: {type(error).__name__}") from error
        self._published = number  # RabbitMQ counts what was sent, not what pika couldn't encode
        confirmed = self._confirms[number] = asyncio.get_running_loop().create_future()
        return confirmed

    def confirmed(self, frame: Any) -> None:
        """Note that RabbitMQ has confirmed, or rejected, one message or all messages up to one."""
        method, last = frame.method, frame.method.delivery_tag
        tags = [tag for tag in self._confirms if tag <= last] if method.multiple else [last]
        for tag in tags:
            waiting = self._confirms.pop(tag, None)
            returned = self._returned.pop(str(tag), None)
            if waiting is None or waiting.done():  # `fail` was first, or nobody waits any more
                continue
            if returned is not None:
                waiting.set_exception(NotTaken(f"no queue takes the message: {returned}"))
            elif isinstance(method, pika.spec.Basic.Ack):
                waiting.set_result(None)
            else:
                waiting.set_exception(NotTaken("RabbitMQ didn't take the message"))

    def fail(self, error: LinkError) -> None:
        """Fail all messages that aren't confirmed."""
        for waiting in self._confirms.values():
            if not waiting.done():
                waiting.set_exception(error)
                waiting.exception()  # whoever waits still gets it; if nobody does, asyncio needn't complain
        self._confirms.clear()

    def close(self) -> None:
        """Close the channel, unless it is closed already."""
        if self._channel.is_open:
            self._channel.close()

    def _note_return(self, _channel: Any, method: Any, properties: Any, _body: bytes) -> None:
        self._returned[properties.message_id] = str(method.reply_text)
