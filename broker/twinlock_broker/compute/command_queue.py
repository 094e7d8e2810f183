"""The queue from which the service's commands come."""

import asyncio
import contextlib
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from twinlock_common.amqp.consumer import Consumer, Message
from twinlock_common.amqp.errors import LinkError, LinkRefused
from twinlock_common.amqp.link import Link
from twinlock_common.amqp.reconnector import Reconnector

from twinlock_broker import metrics
from twinlock_broker.compute.command import Delivery
from twinlock_broker.compute.renewal import Renewal

PREFETCH = 128
"""Commands handled at a time; a slow one must not hold up the others."""

REMEMBERED = 2 * PREFETCH
"""Decided commands that are recognized if they are delivered again. That happens if acknowledgements are lost with a
connection, of which there can be no more than `PREFETCH`.
"""

DRAIN_LIMIT = 10.0
"""Seconds that commands in work get when the broker stops; what isn't acknowledged by then is delivered again."""

log = logging.getLogger(__name__)


class CommandQueue:
    """The consumer of the registration's queue. Each message is handled in its own task and then acknowledged."""

    def __init__(self, renewal: Renewal, handle: Callable[[Delivery], Awaitable[None]]) -> None:
        self._renewal = renewal
        self._handle = handle
        self._decided: OrderedDict[bytes, None] = OrderedDict()
        self._working: dict[bytes, list[Message]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._used = renewal.current
        self._connection = Reconnector(self._open, self._consume, self._lost)
        self._consumer: Consumer | None = None
        self.ready = asyncio.Event()
        """Set as soon as commands are consumed."""

    @property
    def connected(self) -> bool:
        """Whether there is a connection to RabbitMQ."""
        return self._connection.link is not None

    async def run(self) -> None:
        """Consume without end, and reconnect whenever a connection fails. Raise `Fatal`, see `Renewal`."""
        await self._connection.run()

    async def stop(self) -> None:
        """Take no more commands and let those in work come to their end."""
        if self._connection.link is not None and self._consumer is not None:
            with contextlib.suppress(LinkError):
                await self._consumer.stop()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=DRAIN_LIMIT)
        for task in self._tasks:
            task.cancel()
        await self._connection.close()
        metrics.AMQP_CONNECTED.labels("commands").set(0)

    async def _open(self) -> Link:
        self._used = self._renewal.current
        return await Link.open(self._used.commands.url.reveal())

    async def _consume(self, link: Link) -> None:
        self._consumer = await link.consume(self._used.commands.queue, PREFETCH, self._start)
        log.info("consuming commands")
        metrics.AMQP_CONNECTIONS.labels("commands").inc()
        metrics.AMQP_CONNECTED.labels("commands").set(1)
        self.ready.set()

    async def _lost(self, error: LinkError, delay: float) -> None:
        metrics.AMQP_CONNECTED.labels("commands").set(0)
        self._consumer = None
        if isinstance(error, LinkRefused):
            await self._renewal.renew(self._used)
        else:
            log.warning("no connection to the command queue; reconnecting in %.1f s: %s", delay, error)

    def _start(self, message: Message) -> None:
        told = message.properties
        delivery = Delivery(told.content_type, told.timestamp, message.body, message.redelivered)
        fingerprint = delivery.fingerprint()
        if delivery.redelivered and fingerprint in self._decided:
            log.info("a command was delivered again; its outcome is decided already")
            metrics.COMMANDS.labels("duplicate").inc()
            message.ack()
        elif delivery.redelivered and fingerprint in self._working:
            self._working[fingerprint].append(message)
        else:
            self._working.setdefault(fingerprint, []).append(message)
            task = asyncio.create_task(self._work(fingerprint, delivery))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _work(self, fingerprint: bytes, delivery: Delivery) -> None:
        try:
            await self._handle(delivery)
        except Exception:  # whatever it was, it would happen again with the same message
            log.exception("a command failed unexpectedly and is dropped")
        self._decided[fingerprint] = None
        if len(self._decided) > REMEMBERED:
            self._decided.popitem(last=False)
        for message in self._working.pop(fingerprint, ()):
            message.ack()
