"""The service's connection to RabbitMQ: reads queues in batches, publishes, connects again when it breaks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, NoReturn

from twinlock_common.amqp.connection import parameters
from twinlock_common.amqp.consumer import Message
from twinlock_common.amqp.envelope import Envelope
from twinlock_common.amqp.errors import LinkError, NotTaken
from twinlock_common.amqp.link import Link
from twinlock_common.amqp.reconnector import Reconnector

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
        connection = Reconnector(self._open, partial(self._read, handlers), _say_why, LONGEST_DELAY)
        try:
            await connection.run()
        finally:
            await connection.close()

    async def connected(self, within_s: float | None = None) -> None:
        """Wait until there is a connection. Raise `LinkError` if there is none after `within_s` seconds."""
        try:
            async with asyncio.timeout(within_s):
                await self._up.wait()
        except TimeoutError:
            raise LinkError("there is no connection to RabbitMQ") from None

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
            await self._link.publish(Envelope(exchange, key, _PERSISTENT | properties), body)
        except NotTaken:
            return False
        return True

    async def _open(self) -> Link:
        return await Link.open(self._url, silence_s=_HEARTBEAT)

    async def _read(self, handlers: Mapping[str, Handler], link: Link) -> None:
        """Have the queues' messages handled while the connection lasts. Raise what a handler raises, or `LinkError`."""
        self._link = link
        try:
            inboxes = [await _inbox(link, queue) for queue in handlers]
            self._up.set()
            address = parameters(self._url)
            log.info("connected to RabbitMQ at %s:%d", address.host, address.port)
            async with asyncio.TaskGroup() as working:
                for inbox, handler in zip(inboxes, handlers.values(), strict=True):
                    working.create_task(_work(inbox, handler))
            await link.closed()
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        finally:
            self._link = None
            self._up.clear()


async def _inbox(link: Link, queue: str) -> asyncio.Queue[Message]:
    inbox: asyncio.Queue[Message] = asyncio.Queue()
    await link.consume(queue, BATCH, inbox.put_nowait)
    return inbox


async def _work(inbox: asyncio.Queue[Message], handler: Handler) -> NoReturn:
    while True:
        batch = [await inbox.get()]
        while not inbox.empty() and len(batch) < BATCH:
            batch.append(inbox.get_nowait())
        await handler(batch)
        for message in batch:
            message.ack()


async def _say_why(error: LinkError, _delay: float) -> None:
    log.warning("RabbitMQ: %s; connecting again", error)
