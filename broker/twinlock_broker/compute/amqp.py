"""One AMQP connection with one channel, on the asyncio loop. It doesn't mend itself: when it ends, open another."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import pika
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.exceptions import AMQPError, AuthenticationError, ProbableAccessDeniedError, ProbableAuthenticationError

from twinlock_broker.compute.command import Delivery
from twinlock_broker.compute.queues import Target
from twinlock_broker.secret import Secret

OPEN_LIMIT = 30.0
"""Seconds for a connection and its channel to be there."""

_CLOSE_LIMIT = 3.0
# Reply codes of AMQP 0-9-1, 1.2.2.
_ACCESS_REFUSED = 403
_PRECONDITION_FAILED = 406
_ABOUT_THE_MESSAGE = (311, 501, 502, 505)
_REFUSALS = (ProbableAuthenticationError, ProbableAccessDeniedError, AuthenticationError)


class LinkError(Exception):
    """The connection couldn't be made, ended, or didn't take a message. The text holds no credentials."""


class LinkRefused(LinkError):
    """RabbitMQ doesn't take the credentials, or takes them no longer."""


class MessageRefused(LinkError):
    """RabbitMQ will never accept the message, because it is too large or malformed."""


class Link:
    """The connection. `open` makes one; whatever ends it, `closed` tells, and everything pending fails."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._closed: asyncio.Future[str] = self._loop.create_future()
        self._confirms: dict[int, asyncio.Future[None]] = {}
        self._published = 0
        self._connection: Any = None
        self._channel: Any = None
        self._refused = False

    @classmethod
    async def open(cls, url: Secret[str]) -> "Link":
        """A connection to `url` whose channel confirms what is published. Raises `LinkError`."""
        link = cls()
        try:
            async with asyncio.timeout(OPEN_LIMIT):
                await link._connect(url)
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
        """Wait for the end of the connection; the reason."""
        return await asyncio.shield(self._closed)

    async def publish(self, target: Target, body: bytes) -> None:
        """Publish one message and wait until RabbitMQ has it in a queue. Raises `LinkError`."""
        self._published += 1
        tag = self._published
        confirmed: asyncio.Future[None] = self._loop.create_future()
        self._confirms[tag] = confirmed
        properties = pika.BasicProperties(delivery_mode=target.delivery_mode, message_id=str(tag))
        try:
            self._channel.basic_publish(target.exchange, target.routing_key, body, properties, mandatory=True)
            await confirmed
        except AMQPError as error:
            raise LinkError(f"can't publish: {type(error).__name__}") from error
        finally:
            self._confirms.pop(tag, None)

    async def consume(self, queue: str, prefetch: int, deliver: Callable[[Delivery, int], None]) -> str:
        """Have `deliver` called with each message of `queue` and its tag; the consumer's tag. Raises `LinkError`."""
        await self._ask(lambda done: self._channel.basic_qos(prefetch_count=prefetch, callback=done))

        def received(_channel: Any, method: Any, properties: Any, body: bytes) -> None:
            sent = Delivery(properties.content_type, properties.timestamp, body, method.redelivered)
            deliver(sent, method.delivery_tag)

        started = await self._ask(lambda done: self._channel.basic_consume(queue, received, callback=done))
        return str(started.method.consumer_tag)

    async def cancel(self, consumer: str) -> None:
        """Let no more messages be delivered to `consumer`. Raises `LinkError`."""
        await self._ask(lambda done: self._channel.basic_cancel(consumer, callback=done))

    def ack(self, tag: int) -> None:
        """Acknowledge a message. On a connection that has ended it does nothing: the message is delivered again."""
        with contextlib.suppress(AMQPError):
            self._channel.basic_ack(tag)

    async def close(self) -> None:
        """Close the connection, and wait a moment for the other side to agree.

        One that is still being made is closed as soon as it is there, or given up by pika after 15 s: pika's `close`
        amid the handshake ends in an AssertionError in a callback.
        """
        if self._connection is not None and self._connection.is_open:
            self._connection.close()
            await asyncio.wait((self._closed,), timeout=_CLOSE_LIMIT)
        self._end("closed")

    async def _connect(self, url: Secret[str]) -> None:
        opened: asyncio.Future[Any] = self._loop.create_future()
        self._connection = AsyncioConnection(
            pika.URLParameters(url.reveal()),
            on_open_callback=lambda connection: self._opened(connection, opened),
            on_open_error_callback=lambda _, error: self._end_by(error),
            on_close_callback=lambda _, error: self._end_by(error),
        )
        await self._or_closed(opened)
        channel = await self._ask(lambda done: self._connection.channel(on_open_callback=done))
        channel.add_on_close_callback(lambda _, error: self._lose_channel(_reason(error), _failure(error)))
        channel.add_on_cancel_callback(lambda _: self._lose_channel("the queue was deleted"))
        channel.add_on_return_callback(lambda _c, method, props, _b: self._returned(int(props.message_id), method))
        self._channel = channel
        await self._ask(lambda done: channel.confirm_delivery(self._confirmed, callback=done))

    def _opened(self, connection: Any, opened: asyncio.Future[Any]) -> None:
        if self._closed.done():  # it isn't wanted any more
            connection.close()
        _resolve(opened, connection)

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

    def _confirmed(self, frame: Any) -> None:
        method, last = frame.method, frame.method.delivery_tag
        for tag, waiting in self._confirms.items():
            if waiting.done() or not (tag == last or (method.multiple and tag < last)):
                continue
            if isinstance(method, pika.spec.Basic.Ack):
                waiting.set_result(None)
            else:
                waiting.set_exception(LinkError("RabbitMQ didn't take the message"))

    def _returned(self, tag: int, method: Any) -> None:
        """No queue takes the message; the confirmation that follows would hide it."""
        waiting = self._confirms.get(tag)
        if waiting is not None and not waiting.done():
            waiting.set_exception(LinkError(f"no queue takes the message: {method.reply_text}"))

    def _lose_channel(self, reason: str, failure: type[LinkError] = LinkError) -> None:
        """One channel is all there is, so that without it the connection is of no use."""
        if self._connection.is_open:
            self._connection.close()
        self._end(reason, failure)

    def _end_by(self, error: Any) -> None:
        self._refused = isinstance(error, _REFUSALS) or getattr(error, "reply_code", 0) == _ACCESS_REFUSED
        self._end(_reason(error))

    def _end(self, reason: str, failure: type[LinkError] = LinkError) -> None:
        _resolve(self._closed, reason)
        kind = failure if len(self._confirms) == 1 else LinkError  # of several nobody knows which one was meant
        for waiting in self._confirms.values():
            if not waiting.done():
                waiting.set_exception(kind(reason))


def _resolve(future: asyncio.Future[Any], value: Any) -> None:
    if not future.done():
        future.set_result(value)


def _failure(error: Any) -> type[LinkError]:
    """What a channel's end means for a message that was on its way."""
    code = getattr(error, "reply_code", 0)
    too_large = code == _PRECONDITION_FAILED and "size" in str(error)  # RabbitMQ says so of a property too
    return MessageRefused if too_large or code in _ABOUT_THE_MESSAGE else LinkError


def _reason(error: Any) -> str:
    """What ended a connection; pika's texts hold addresses and RabbitMQ's words, never the password."""
    return f"{type(error).__name__}: {str(error)[:200]}"
