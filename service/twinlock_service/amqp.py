"""
The service's connection to RabbitMQ: reads queues in batches, publishes with confirms, connects again when it breaks.

Callbacks of pika become futures here, so that the rest of the service reads from top to bottom.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pika
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.channel import Channel
from pika.exceptions import AMQPError
from twinlock_common.backoff import delays

from twinlock_service.publishing import MessageRefusedError, PublishingChannel, SuspectError, refusal

log = logging.getLogger(__name__)

BATCH = 16
"""How many messages are handled, and committed, at once; also how many RabbitMQ sends ahead into memory."""

LONGEST_DELAY = 10.0
"""Seconds between attempts to connect, at most."""

OPEN_LIMIT = 30.0
"""Seconds for an attempt: of one that fails in a callback, for want of a descriptor for example, pika says nothing."""


class AmqpDownError(Exception):
    """There is no connection to RabbitMQ, or it broke before RabbitMQ had confirmed."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message that came; `exchange` is the one that its sender published it to."""

    tag: int
    exchange: str
    body: bytes


Handler = Callable[[list[Delivery]], Awaitable[None]]
"""Handles messages of one queue; they are acknowledged when it returns."""


class _Session:
    """One connection, from its opening to its end: a channel to publish on and one for each queue that is read."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._workers: list[asyncio.Task[None]] = []
        self._publishers: set[PublishingChannel] = set()
        self._publisher: PublishingChannel | None = None
        self._opening = asyncio.Lock()
        self._alone = asyncio.Lock()
        self._connection: Any = None

    async def open(self, parameters: pika.URLParameters) -> None:
        """Connects. AmqpDownError: that was not possible."""
        opened: asyncio.Future[object] = self._loop.create_future()
        self._connection = AsyncioConnection(
            parameters,
            on_open_callback=lambda connection: self._opened(connection, opened),
            on_open_error_callback=lambda _, error: self._end(error),
            on_close_callback=lambda _, error: self._end(error),
        )
        try:
            async with asyncio.timeout(OPEN_LIMIT):
                await self._answer(opened)
                await self._usual()
        except TimeoutError:
            raise AmqpDownError(f"RabbitMQ: no connection within {OPEN_LIMIT:.0f} s") from None

    async def read(self, queue: str, handler: Handler) -> None:
        """Begins to read a queue. AmqpDownError: that was not possible."""
        channel = await self._channel()
        inbox: asyncio.Queue[Delivery] = asyncio.Queue()

        def receive(_channel: Channel, method: Any, _properties: Any, body: bytes) -> None:
            inbox.put_nowait(Delivery(method.delivery_tag, method.exchange, body))

        await self._ask(lambda done: channel.basic_qos(prefetch_count=BATCH, callback=done))
        await self._ask(lambda done: channel.basic_consume(queue, receive, callback=done))
        self._workers.append(asyncio.create_task(_work(channel, inbox, handler), name=f"amqp {queue}"))

    async def publish(self, exchange: str, key: str, body: bytes, properties: dict[str, Any]) -> bool:
        """
        Whether a queue took the message. MessageRefusedError: RabbitMQ will never accept it.

        RabbitMQ closes the channel over such a message without saying which one it was. So each that wasn't confirmed
        then is published once more, alone, on a channel of its own.
        """
        message = exchange, key, body, properties
        try:
            return await (await self._usual()).publish(*message)
        except SuspectError:
            async with self._alone:
                channel = await self._publishing()
                try:
                    return await channel.publish(*message)
                except SuspectError as error:
                    raise MessageRefusedError(len(body), str(error)) from None
                finally:
                    self._publishers.discard(channel)
                    channel.close()

    async def wait_ended(self) -> None:
        """Returns when the connection has broken. Raises what a handler raised."""
        await asyncio.wait({self._ended, *self._workers}, return_when=asyncio.FIRST_COMPLETED)
        for worker in self._workers:
            if worker.done():
                worker.result()
        self._ended.result()

    async def close(self) -> None:
        """Ends everything; publications that were not confirmed fail."""
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        if self._connection is not None and self._connection.is_open:
            self._connection.close()
            await asyncio.wait({self._ended}, timeout=5)
        self._end("the connection was closed")

    def _opened(self, connection: Any, opened: asyncio.Future[object]) -> None:
        # One that took too long is closed only now: pika's `close` amid the handshake ends in an AssertionError.
        if self._ended.done():
            connection.close()
        _resolver(opened)(connection)

    def _end(self, error: object) -> None:
        down = AmqpDownError(f"RabbitMQ: {error!r}")
        if not self._ended.done():
            self._ended.set_exception(down)
            # Whoever waits gets it all the same; where nobody does, asyncio need not complain.
            self._ended.exception()
        for publisher in self._publishers:
            publisher.fail(down)

    async def _usual(self) -> PublishingChannel:
        async with self._opening:
            if self._publisher is None or not self._publisher.is_open:
                self._publisher = await self._publishing()
            return self._publisher

    async def _publishing(self) -> PublishingChannel:
        channel = await self._channel(lambda error: self._publisher_closed(made, error))
        made = PublishingChannel(channel)
        self._publishers.add(made)
        await self._ask(lambda done: channel.confirm_delivery(made.confirmed, callback=done))
        return made

    def _publisher_closed(self, publisher: PublishingChannel, error: object) -> None:
        words = refusal(error)
        if words is not None:
            log.warning("RabbitMQ refused a message: %s", words)
            self._publishers.discard(publisher)
            publisher.fail(SuspectError(words))
        elif publisher in self._publishers:
            self._end(error)

    async def _channel(self, closed: Callable[[object], None] | None = None) -> Any:
        channel = await self._ask(lambda done: self._connection.channel(on_open_callback=done))
        # A channel that RabbitMQ closes (a queue is gone) takes the connection with it: then all is set up anew.
        channel.add_on_close_callback(lambda _, error: (closed or self._end)(error))
        channel.add_on_cancel_callback(lambda _: self._end("a queue that the service reads was deleted"))
        return channel

    async def _ask(self, call: Callable[[Callable[[object], None]], object]) -> Any:
        answered: asyncio.Future[object] = self._loop.create_future()
        if self._ended.done():
            self._ended.result()
        try:
            call(_resolver(answered))
        except AMQPError as error:
            raise AmqpDownError(f"RabbitMQ: {error!r}") from error
        return await self._answer(answered)

    async def _answer(self, answered: asyncio.Future[object]) -> object:
        futures: set[asyncio.Future[Any]] = {answered, self._ended}
        await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
        if self._ended.done():
            self._ended.result()
        return answered.result()


class Amqp:
    """RabbitMQ as the service sees it."""

    def __init__(self, url: str) -> None:
        self._parameters = pika.URLParameters(url)
        self._parameters.heartbeat = 30
        self._session: _Session | None = None
        self._up = asyncio.Event()

    async def run(self, handlers: Mapping[str, Handler]) -> None:
        """Keeps the connection up until it is cancelled. `handlers`: what is done with the messages of which queue."""
        waits = delays(most=LONGEST_DELAY)
        while True:
            session = _Session()
            try:
                await session.open(self._parameters)
                # Handlers publish, too, so they come second.
                self._session, waits = session, delays(most=LONGEST_DELAY)
                for queue, handler in handlers.items():
                    await session.read(queue, handler)
                self._up.set()
                log.info("connected to RabbitMQ at %s:%d", self._parameters.host, self._parameters.port)
                await session.wait_ended()
            except AmqpDownError as error:
                log.warning("%s; connecting again", error)
            except Exception:
                # What was not acknowledged comes again after the reconnect.
                log.exception("a message could not be handled; connecting again")
            finally:
                self._session = None
                self._up.clear()
                await session.close()
            await asyncio.sleep(next(waits))

    async def connected(self) -> None:
        """Returns when there is a connection."""
        await self._up.wait()

    async def publish(self, exchange: str, key: str, body: bytes, **properties: Any) -> bool:
        """
        Publishes a persistent message; returns when RabbitMQ has it: True, or False where no queue would take it.

        Properties are AMQP's own (`headers`, `content_type`, `timestamp` in seconds). AmqpDownError: not confirmed.
        MessageRefusedError: RabbitMQ will never accept it; nothing else suffers from that.
        """
        if self._session is None:
            raise AmqpDownError("there is no connection to RabbitMQ")
        return await self._session.publish(exchange, key, body, properties)


async def _work(channel: Channel, inbox: asyncio.Queue[Delivery], handler: Handler) -> None:
    while True:
        batch = [await inbox.get()]
        while not inbox.empty() and len(batch) < BATCH:
            batch.append(inbox.get_nowait())
        await handler(batch)
        if not channel.is_open:
            raise AmqpDownError("RabbitMQ closed the channel")
        channel.basic_ack(batch[-1].tag, multiple=True)


def _resolver(future: asyncio.Future[object]) -> Callable[[object], None]:
    def resolve(value: object) -> None:
        if not future.done():
            future.set_result(value)

    return resolve
