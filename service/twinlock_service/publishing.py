"""One channel on which messages are published with confirms."""

from __future__ import annotations

import asyncio
from typing import Any

import pika
from pika.exceptions import ChannelClosedByBroker

# Reply codes of AMQP 0-9-1, 1.2.2.
_TOO_LARGE = 311
_PRECONDITION_FAILED = 406


class MessageRefusedError(Exception):
    """RabbitMQ will never accept the message."""

    def __init__(self, size: int, words: str) -> None:
        super().__init__(f"RabbitMQ refuses a message of {size:,} bytes: {words}")


class SuspectError(Exception):
    """RabbitMQ closed the channel over one of the messages that weren't confirmed yet; the text is RabbitMQ's."""


class PublishingChannel:
    """Publishes on `channel`, which is open and confirms."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self._confirms: dict[int, asyncio.Future[bool]] = {}
        self._returned: set[str] = set()
        self._published = 0
        channel.add_on_return_callback(lambda _c, _m, properties, _b: self._returned.add(properties.message_id))

    @property
    def is_open(self) -> bool:
        """Whether anything can be published."""
        return bool(self._channel.is_open)

    def publish(self, exchange: str, key: str, body: bytes, properties: dict[str, Any]) -> asyncio.Future[bool]:
        """The future says whether a queue took the message."""
        number = self._published + 1
        # The id tells which message came back; RabbitMQ returns a message before it confirms it.
        full = pika.BasicProperties(delivery_mode=2, message_id=str(number), **properties)
        self._channel.basic_publish(exchange, key, body, full, mandatory=True)
        self._published = number  # RabbitMQ counts what was sent, not what pika couldn't encode
        confirmed = self._confirms[number] = asyncio.get_running_loop().create_future()
        return confirmed

    def confirmed(self, frame: Any) -> None:
        """RabbitMQ confirmed, or took back, one message or all up to one."""
        tag, method = frame.method.delivery_tag, frame.method
        tags = [each for each in self._confirms if each <= tag] if method.multiple else [tag]
        for each in tags:
            confirmed = self._confirms.pop(each)
            routed = str(each) not in self._returned
            self._returned.discard(str(each))
            if not confirmed.done():
                confirmed.set_result(routed and method.NAME == "Basic.Ack")

    def fail(self, error: Exception) -> None:
        """Fail what isn't confirmed."""
        for future in self._confirms.values():
            if not future.done():
                future.set_exception(error)
                # Whoever waits gets it all the same; where nobody does, asyncio need not complain.
                future.exception()
        self._confirms.clear()

    def close(self) -> None:
        """Close the channel, if that hasn't happened."""
        if self._channel.is_open:
            self._channel.close()


def refusal(error: object) -> str | None:
    """RabbitMQ's words where it closed a channel because a message is too large for it; None for all other reasons."""
    if not isinstance(error, ChannelClosedByBroker):
        return None
    text = str(error.reply_text)
    too_large = error.reply_code == _PRECONDITION_FAILED and "size" in text  # it says 406 of a property too
    return text if too_large or error.reply_code == _TOO_LARGE else None
