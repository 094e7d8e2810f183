"""The service's connection to RabbitMQ: reads queues in batches, publishes, connects again when it breaks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NoReturn

import pika
from twinlock_common.amqp.errors import LinkError, NotTaken
from twinlock_common.amqp.link import Link, Message
from twinlock_common.backoff import delays

log = logging.getLogger(__name__)

BATCH = 16
"""How many messages are handled, and committed, at once; also how many RabbitMQ sends ahead into memory."""

LONGEST_DELAY = 10.0
"""Seconds between attempts to connect, at most."""

_HEARTBEAT = 30  # seconds
_PERSISTENT = {"delivery_mode": 2}

Handler = Callable[[list[Message]], Awaitable[None]]
"""Handles messages of one queue; they are acknowledged when it returns."""


class AmqpClient:
    """RabbitMQ as the service sees it."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._link: Link | None = None
        self._up = asyncio.Event()

    async def run(self, handlers: Mapping[str, Handler]) -> None:
        """Keep the connection up until this is cancelled. `handlers` has for each queue what handles its messages."""
        waits = delays(most=LONGEST_DELAY)
        while True:
            try:
                self._link = await Link.open(self._url, _HEARTBEAT)
                waits = delays(most=LONGEST_DELAY)
                await self._read(self._link, handlers)
            except LinkError as error:
                log.warning("RabbitMQ: %s; connecting again", error)
            except Exception:
                # What was not acknowledged comes again after the reconnect.
                log.exception("a message could not be handled; connecting again")
            finally:
                link, self._link = self._link, None
                self._up.clear()
                if link is not None:
                    await link.close()
            await asyncio.sleep(next(waits))

    async def connected(self) -> None:
        """Wait until there is a connection."""
        await self._up.wait()

    async def publish(self, exchange: str, key: str, body: bytes, **properties: Any) -> bool:
        """Publish a persistent message, and return when RabbitMQ has it: True, or False if no queue would take it.

        Args:
            exchange: where to publish it
            key: the routing key
            body: the message
            properties: AMQP's own, such as `headers`, `content_type`, and `timestamp` in seconds

        Raises:
            LinkError: RabbitMQ has not confirmed the message
            RefusedMessageError: RabbitMQ will never accept the message; other messages aren't affected
        """
        if self._link is None:
            raise LinkError("there is no connection to RabbitMQ")
        try:
            await self._link.publish(exchange, key, body, _PERSISTENT | properties)
        except NotTaken:
            return False
        return True

    async def _read(self, link: Link, handlers: Mapping[str, Handler]) -> NoReturn:
        """Have the queues' messages handled until the connection breaks.

        Raise what a handler raised, or `LinkError`.
        """
        closed = asyncio.create_task(link.closed())
        workers: list[asyncio.Task[NoReturn]] = []
        try:
            for queue, handler in handlers.items():
                inbox: asyncio.Queue[Message] = asyncio.Queue()
                await link.consume(queue, BATCH, inbox.put_nowait)
                workers.append(asyncio.create_task(_work(inbox, handler), name=f"amqp {queue}"))
            self._up.set()
            address = pika.URLParameters(self._url)
            log.info("connected to RabbitMQ at %s:%d", address.host, address.port)
            await asyncio.wait((closed, *workers), return_when=asyncio.FIRST_COMPLETED)
            for worker in workers:
                if worker.done():
                    worker.result()
            raise LinkError(closed.result())
        finally:
            for task in (closed, *workers):
                task.cancel()
            await asyncio.gather(closed, *workers, return_exceptions=True)


async def _work(inbox: asyncio.Queue[Message], handler: Handler) -> NoReturn:
    while True:
        batch = [await inbox.get()]
        while not inbox.empty() and len(batch) < BATCH:
            batch.append(inbox.get_nowait())
        await handler(batch)
        batch[-1].ack(multiple=True)
