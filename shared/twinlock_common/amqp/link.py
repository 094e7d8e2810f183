"""One AMQP connection on the asyncio loop. It doesn't reconnect: see `Reconnector`."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

from pika.channel import Channel
from pika.exceptions import AMQPError, AuthenticationError, ProbableAccessDeniedError, ProbableAuthenticationError

from twinlock_common.amqp.connection import Connection, parameters
from twinlock_common.amqp.consumer import Consumer, Message
from twinlock_common.amqp.envelope import Envelope
from twinlock_common.amqp.errors import LinkError, LinkRefused
from twinlock_common.amqp.publisher import Publisher

OPEN_LIMIT = 30.0
"""Seconds for a connection and its channel to be open. pika doesn't report an attempt that fails in a callback, for
example because no descriptor is left.
"""

_CLOSE_LIMIT = 3.0
_ACCESS_REFUSED = 403  # AMQP 0-9-1, 1.2.2
_REFUSALS = (ProbableAuthenticationError, ProbableAccessDeniedError, AuthenticationError)


class Link:
    """A connection to RabbitMQ, made by `open`. When it ends, `closed` returns and everything pending fails.

    It has one channel to publish on, and one for each queue that is consumed. If RabbitMQ closes a channel, the
    connection ends too, unless the reason is a message that RabbitMQ will never accept.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._closed: asyncio.Future[LinkError] = self._loop.create_future()
        self._connection: Any = None
        self._publisher = Publisher()
        self._reopening: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, url: str, port: int | None = None, silence_s: int | None = None) -> "Link":
        """Connect to `url`. Raise `LinkError`.

        `port` replaces the URL's port. After `silence_s` seconds without a sign of life the other side is considered
        dead.
        """
        link = cls()
        try:
            async with asyncio.timeout(OPEN_LIMIT):
                await link._connect(url, port, silence_s)
        except TimeoutError as error:
            await link.close()
            raise LinkError(f"no connection within {OPEN_LIMIT:.0f} s") from error
        except LinkError:
            raise
        except Exception as error:  # the URL isn't valid, or the process lacks something, such as a thread
            raise LinkError(f"can't connect: {type(error).__name__}") from error
        except BaseException:
            await link.close()
            raise
        return link

    async def closed(self) -> LinkError:
        """Wait for the end of the connection and return the reason."""
        return await asyncio.shield(self._closed)

    async def during(self, work: Coroutine[Any, Any, None]) -> NoReturn:
        """Work while the connection lasts, and wait for its end. Raise `LinkError` then, or what `work` raises."""
        working = asyncio.create_task(work)
        try:
            await asyncio.wait((working, self._closed), return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                await working
            raise await self.closed()
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)

    def publish(self, envelope: Envelope, body: bytes, *, is_suspect: bool = False) -> asyncio.Future[None]:
        """Publish one message, and return a future that is done when RabbitMQ has it in a queue.

        Messages go out in order. The future raises `RefusedMessageError` if RabbitMQ will never accept the message;
        that affects no other. It raises `NotTaken` if no queue has taken it, and `LinkError` if it wasn't confirmed.

        Args:
            envelope: where to, and with which properties
            body: the message
            is_suspect: whether it failed as `Suspect` on an earlier connection
        """
        return self._publisher.publish(envelope, body, is_suspect=is_suspect)

    async def consume(self, queue: str, prefetch: int, receive: Callable[[Message], None]) -> Consumer:
        """Have `receive` called with each message of `queue`. Raise `LinkError`.

        At most `prefetch` messages are unacknowledged at a time.
        """
        consumer = Consumer(await self._channel(self._lose), self._ask, queue, receive)
        await consumer.start(prefetch)
        return consumer

    async def close(self) -> None:
        """Close the connection, and wait a moment for the other side to agree.

        A connection that is still being made is closed as soon as it is open, or given up by pika after 15 s: pika's
        `close` during the handshake ends in an AssertionError in a callback.
        """
        await asyncio.sleep(0)  # for what was acknowledged in this turn
        if self._connection is not None and self._connection.is_open:
            self._connection.close()
            await asyncio.wait((self._closed,), timeout=_CLOSE_LIMIT)
        self._end(LinkError("closed"))

    async def _connect(self, url: str, port: int | None, silence_s: int | None) -> None:
        opened: asyncio.Future[Any] = self._loop.create_future()
        self._connection = Connection(
            parameters(url, port, silence_s),
            on_open_callback=lambda connection: self._opened(connection, opened),
            on_open_error_callback=lambda _, reason: self._end(_refused(reason), reason),
            on_close_callback=lambda _, reason: self._end(_error(reason), reason),
        )
        await self._or_closed(opened)
        await self._open_publisher()

    def _opened(self, connection: Any, opened: asyncio.Future[Any]) -> None:
        if self._closed.done():  # it isn't wanted any more
            connection.close()
        _resolve(opened, connection)

    async def _open_publisher(self) -> None:
        channel = await self._channel(self._publisher_closed)
        await self._ask(lambda done: channel.confirm_delivery(self._publisher.confirmed, callback=done))
        self._publisher.opened(channel)

    def _publisher_closed(self, reason: BaseException) -> None:
        if self._connection.is_open and self._publisher.refused(reason):
            self._reopening = self._loop.create_task(self._reopen_publisher())
        else:
            self._lose(reason)

    async def _reopen_publisher(self) -> None:
        with contextlib.suppress(LinkError):  # then `closed` tells
            await self._open_publisher()

    async def _channel(self, closed: Callable[[BaseException], None]) -> Channel:
        channel = await self._ask(lambda done: self._connection.channel(on_open_callback=done))
        channel.add_on_close_callback(lambda _, reason: closed(reason))
        channel.add_on_cancel_callback(lambda _: self._lose(LinkError("the queue was deleted")))
        return channel

    async def _ask(self, call: Callable[[Callable[[Any], None]], Any]) -> Any:
        """Make a call of pika's that answers by a callback, and wait for the answer."""
        answer: asyncio.Future[Any] = self._loop.create_future()
        try:
            call(lambda value: _resolve(answer, value))
        except AMQPError as error:
            raise LinkError(f"the connection has ended: {type(error).__name__}") from error
        return await self._or_closed(answer)

    async def _or_closed(self, answer: asyncio.Future[Any]) -> Any:
        await asyncio.wait((answer, self._closed), return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise self._closed.result()
        return answer.result()

    def _lose(self, reason: BaseException) -> None:
        """End the connection if a channel has ended by itself."""
        if self._connection.is_open:
            self._connection.close()
            self._end(_error(reason))

    def _end(self, error: LinkError, reason: BaseException | None = None) -> None:
        if not self._closed.done():
            self._closed.set_result(error)
            self._publisher.ended(reason or error, error)


def _resolve(future: asyncio.Future[Any], value: Any) -> None:
    if not future.done():
        future.set_result(value)


def _error(reason: BaseException) -> LinkError:
    """Return what ended a connection. pika's texts hold addresses and RabbitMQ's words, never the password."""
    return reason if isinstance(reason, LinkError) else LinkError(f"{type(reason).__name__}: {str(reason)[:200]}")


def _refused(reason: BaseException) -> LinkError:
    """Return what ended a connection that wasn't open yet."""
    refused = isinstance(reason, _REFUSALS) or getattr(reason, "reply_code", 0) == _ACCESS_REFUSED
    return LinkRefused(str(_error(reason))) if refused else _error(reason)
