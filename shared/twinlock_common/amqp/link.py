"""One AMQP connection on the asyncio loop. It doesn't reconnect: when it ends, open another one."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pika.exceptions import AMQPError, AuthenticationError, ProbableAccessDeniedError, ProbableAuthenticationError

from twinlock_common.amqp.connection import Connection, parameters
from twinlock_common.amqp.errors import LinkError, LinkRefused, RefusedMessageError, Suspect
from twinlock_common.amqp.publishing import PublishingChannel
from twinlock_common.amqp.refusals import refusal

OPEN_LIMIT = 30.0
"""Seconds for a connection and its channel to be open. pika doesn't report an attempt that fails in a callback, for
example because no descriptor is left.
"""

_CLOSE_LIMIT = 3.0
_ACCESS_REFUSED = 403  # AMQP 0-9-1, 1.2.2
_REFUSALS = (ProbableAuthenticationError, ProbableAccessDeniedError, AuthenticationError)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it was delivered."""

    channel: Any = field(repr=False)
    """The channel that it came on, where it is acknowledged."""
    tag: int
    """Its number on that channel (AMQP's delivery tag)."""
    exchange: str
    """The exchange that it was published to."""
    body: bytes = field(repr=False)
    """Its content."""
    redelivered: bool
    """It was delivered before, and not acknowledged."""
    content_type: Any
    """The type of its content, as the sender names it; None if it doesn't."""
    timestamp: Any
    """In seconds since 1970, as the sender set it; None if it didn't."""

    def ack(self, *, multiple: bool = False) -> None:
        """Acknowledge the message or, with `multiple`, all messages up to it.

        Once its channel has ended this does nothing: RabbitMQ delivers the message again.
        """
        with contextlib.suppress(AMQPError):
            self.channel.basic_ack(self.tag, multiple=multiple)


@dataclass(frozen=True, slots=True)
class Consumer:
    """A subscription to a queue: the channel that messages come on, and its tag."""

    channel: Any
    tag: str


class Link:
    """A connection to RabbitMQ, made by `open`. When it ends, `closed` returns and everything pending fails.

    It has one channel to publish on, and one for each queue that is consumed. If RabbitMQ closes a channel, the
    connection ends too, unless the reason is a message that RabbitMQ will never accept.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._closed: asyncio.Future[str] = self._loop.create_future()
        self._connection: Any = None
        self._refused = False
        self._publishers: set[PublishingChannel] = set()
        self._publisher: PublishingChannel | None = None
        self._opening = asyncio.Lock()
        self._alone = asyncio.Lock()

    @classmethod
    async def open(cls, url: str, heartbeat: int | None = None) -> "Link":
        """Connect to `url`. Raise `LinkError`.

        After `heartbeat` seconds without a sign of life the other side is considered dead.
        """
        link = cls()
        try:
            async with asyncio.timeout(OPEN_LIMIT):
                await link._connect(url, heartbeat)
        except TimeoutError as error:
            await link.close()
            raise LinkError(f"no connection within {OPEN_LIMIT:.0f} s") from error
        except (AMQPError, ValueError, OSError) as error:
            raise LinkError(f"can't connect: {type(error).__name__}") from error
        except LinkError as error:
            raise (LinkRefused(str(error)) if link._refused else error) from error
        except BaseException:
            await link.close()
            raise
        return link

    async def closed(self) -> str:
        """Wait for the end of the connection and return the reason."""
        return await asyncio.shield(self._closed)

    async def publish(self, exchange: str, routing_key: str, body: bytes, properties: dict[str, Any]) -> None:
        """Publish one message and wait until RabbitMQ has it in a queue.

        RabbitMQ closes the channel over a message that it will never accept, and doesn't say which one it was. So each
        message that wasn't confirmed by then is published once more, alone, on a channel of its own. `properties` are
        AMQP's own, such as `delivery_mode`; the `message_id` is set here.

        Raises:
            RefusedMessageError: RabbitMQ will never accept the message; no other message suffers from that.
            NotTaken: no queue has taken it.
            LinkError: it wasn't confirmed.
        """
        message = exchange, routing_key, body, properties
        try:
            await (await self._usual()).publish(*message)
        except Suspect:
            async with self._alone:
                await self._publish_alone(*message)

    async def consume(self, queue: str, prefetch: int, receive: Callable[[Message], None]) -> Consumer:
        """Have `receive` called with each message of `queue`. Raise `LinkError`.

        At most `prefetch` messages are unacknowledged at a time.
        """
        channel = await self._channel(lambda error: self._lose_channel(_reason(error)))
        await self._ask(lambda done: channel.basic_qos(prefetch_count=prefetch, callback=done))

        def received(_channel: Any, method: Any, given: Any, body: bytes) -> None:
            found = method.delivery_tag, method.exchange, body, method.redelivered
            receive(Message(channel, *found, given.content_type, given.timestamp))

        started = await self._ask(lambda done: channel.basic_consume(queue, received, callback=done))
        return Consumer(channel, str(started.method.consumer_tag))

    async def cancel(self, consumer: Consumer) -> None:
        """End the delivery of messages to `consumer`. Raise `LinkError`."""
        await self._ask(lambda done: consumer.channel.basic_cancel(consumer.tag, callback=done))

    async def close(self) -> None:
        """Close the connection, and wait a moment for the other side to agree.

        A connection that is still being made is closed as soon as it is open, or given up by pika after 15 s: pika's
        `close` during the handshake ends in an AssertionError in a callback.
        """
        if self._connection is not None and self._connection.is_open:
            self._connection.close()
            await asyncio.wait((self._closed,), timeout=_CLOSE_LIMIT)
        self._end("closed")

    async def _connect(self, url: str, heartbeat: int | None) -> None:
        opened: asyncio.Future[Any] = self._loop.create_future()
        self._connection = Connection(
            parameters(url, silence_s=heartbeat),
            on_open_callback=lambda connection: self._opened(connection, opened),
            on_open_error_callback=lambda _, error: self._end_by(error),
            on_close_callback=lambda _, error: self._end_by(error),
        )
        await self._or_closed(opened)
        await self._usual()

    def _opened(self, connection: Any, opened: asyncio.Future[Any]) -> None:
        if self._closed.done():  # it isn't wanted any more
            connection.close()
        _resolve(opened, connection)

    async def _usual(self) -> PublishingChannel:
        async with self._opening:
            if self._publisher is None or not self._publisher.is_open:
                self._publisher = await self._publishing()
            return self._publisher

    async def _publish_alone(self, exchange: str, routing_key: str, body: bytes, properties: dict[str, Any]) -> None:
        publisher = await self._publishing()
        try:
            await publisher.publish(exchange, routing_key, body, properties)
        except Suspect as error:
            raise RefusedMessageError(len(body), str(error)) from None
        finally:
            self._publishers.discard(publisher)
            publisher.close()

    async def _publishing(self) -> PublishingChannel:
        channel = await self._channel(lambda error: self._publisher_closed(publisher, error))
        publisher = PublishingChannel(channel)
        self._publishers.add(publisher)
        await self._ask(lambda done: channel.confirm_delivery(publisher.confirmed, callback=done))
        return publisher

    def _publisher_closed(self, publisher: PublishingChannel, error: BaseException) -> None:
        told = refusal(error)
        if told is not None and self._connection.is_open:
            log.warning("RabbitMQ refused a message: %s", told.words)
            self._publishers.discard(publisher)
            publisher.fail(Suspect(told.words))
        elif publisher in self._publishers:
            self._lose_channel(_reason(error))

    async def _channel(self, closed: Callable[[BaseException], None]) -> Any:
        channel = await self._ask(lambda done: self._connection.channel(on_open_callback=done))
        channel.add_on_close_callback(lambda _, error: closed(error))
        channel.add_on_cancel_callback(lambda _: self._lose_channel("the queue was deleted"))
        return channel

    async def _ask(self, call: Callable[[Callable[[Any], None]], Any]) -> Any:
        """Make one of pika's calls that answer by a callback, and wait for the answer."""
        answer: asyncio.Future[Any] = self._loop.create_future()
        try:
            call(lambda value: _resolve(answer, value))
        except AMQPError as error:
            raise LinkError(f"the connection has ended: {type(error).__name__}") from error
        return await self._or_closed(answer)

    async def _or_closed(self, answer: asyncio.Future[Any]) -> Any:
        await asyncio.wait((answer, self._closed), return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise LinkError(self._closed.result())
        return answer.result()

    def _lose_channel(self, reason: str) -> None:
        if self._connection.is_open:
            self._connection.close()
        self._end(reason)

    def _end_by(self, error: BaseException) -> None:
        self._refused = isinstance(error, _REFUSALS) or getattr(error, "reply_code", 0) == _ACCESS_REFUSED
        self._end(_reason(error))

    def _end(self, reason: str) -> None:
        _resolve(self._closed, reason)
        for publisher in self._publishers:
            publisher.fail(LinkError(reason))


def _resolve(future: asyncio.Future[Any], value: Any) -> None:
    if not future.done():
        future.set_result(value)


def _reason(error: BaseException) -> str:
    """Return what ended a connection. pika's texts hold addresses and RabbitMQ's words, never the password."""
    return f"{type(error).__name__}: {str(error)[:200]}"
