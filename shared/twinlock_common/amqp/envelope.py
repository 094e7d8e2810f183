"""The frames around a published message, made once: pika makes them for each message, in a tenth of a task's time."""

import struct
from typing import Any

from pika.channel import Channel
from pika.spec import FRAME_BODY, FRAME_END, FRAME_HEADER, FRAME_METHOD, Basic, BasicProperties

_FRAME_S = struct.Struct(">BHL")
_METHOD_S = struct.Struct(">L")
_CONTENT_S = struct.Struct(">HxxQ")
_LARGEST = 1 << 16  # bytes of a body that goes out in one frame, if RabbitMQ accepts frames of that size
_AROUND = 8  # bytes of a frame besides its payload
_END = bytes([FRAME_END])
_ID = "%016x"
_NO_ID = "of 16 characters"


class Envelope:
    """What surrounds the messages to one destination. Frames are those of AMQP 0-9-1, 2.3.5.

    Args:
        exchange: where to publish
        routing_key: by which the exchange finds the queue
        properties: AMQP's own, such as `delivery_mode`; the `message_id` is set here
        mandatory: whether a message that finds no queue comes back

    What can't be encoded raises one of several exceptions of pika's and Python's here, not when it is published.
    """

    def __init__(
        self, exchange: str, routing_key: str, properties: dict[str, Any] | None = None, *, mandatory: bool = True
    ) -> None:
        method = Basic.Publish(exchange=exchange, routing_key=routing_key, mandatory=mandatory)
        self._method = _METHOD_S.pack(method.INDEX) + b"".join(method.encode())
        encoded = b"".join(BasicProperties(**{**(properties or {}), "message_id": _NO_ID}).encode())
        self._before_id, self._after_id = encoded.split(_NO_ID.encode())

    def send(self, channel: Channel, body: bytes, number: int) -> None:
        """Publish a message. Its `message_id` is made of `number`, see `number_of`."""
        on, size = channel.channel_number, len(body)
        properties = self._before_id + (_ID % number).encode() + self._after_id
        content = _CONTENT_S.pack(BasicProperties.INDEX, size) + properties
        frames = [*_frame(FRAME_METHOD, on, self._method), *_frame(FRAME_HEADER, on, content)]
        largest = _largest(channel)
        if 0 < size <= largest:
            channel.connection.send_encoded(b"".join((*frames, *_frame(FRAME_BODY, on, body))))
            return
        channel.connection.send_encoded(b"".join(frames))
        for at in range(0, size, largest):
            channel.connection.send_encoded(b"".join(_frame(FRAME_BODY, on, body[at : at + largest])))


def number_of(properties: BasicProperties) -> int:
    """Return the number that a message was sent with, from the properties of one that RabbitMQ returned."""
    return int(properties.message_id, 16)


def _frame(kind: int, channel: int, payload: bytes) -> tuple[bytes, bytes, bytes]:
    return _FRAME_S.pack(kind, channel, len(payload)), payload, _END


def _largest(channel: Channel) -> int:
    """Return how many bytes of a body go into one frame, as agreed with RabbitMQ. 0 would be no limit."""
    most = channel.connection.params.frame_max
    return min(_LARGEST, most - _AROUND) if most else _LARGEST
