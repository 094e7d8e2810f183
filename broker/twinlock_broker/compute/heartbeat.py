"""The manager endpoint's heartbeats."""

import asyncio
import contextlib
import logging

from twinlock_common.amqp.errors import LinkError, LinkRefused, RefusedMessageError
from twinlock_common.amqp.link import Link
from twinlock_common.amqp.reconnector import Reconnector

from twinlock_broker import metrics
from twinlock_broker.compute import status_report
from twinlock_broker.compute.renewal import Renewal

_CONFIRM_LIMIT = 10.0

log = logging.getLogger(__name__)


class Heartbeat:
    """The endpoint's heartbeats to the service, one every `period` seconds, over a connection of their own."""

    def __init__(self, renewal: Renewal, period: float) -> None:
        self._renewal = renewal
        self._used = renewal.current
        self._period = period
        self._connection = Reconnector(self._open, self._beat, self._lost)
        self.first = asyncio.Event()
        """Set as soon as RabbitMQ has taken a heartbeat."""

    @property
    def connected(self) -> bool:
        """Whether there is a connection to RabbitMQ."""
        return self._connection.link is not None

    async def run(self) -> None:
        """Send without end, and reconnect whenever a connection fails. Raise `Fatal`, see `Renewal`."""
        await self._connection.run()

    async def say_goodbye(self) -> None:
        """Tell the service that the endpoint shuts down. Without a connection the service finds out by itself."""
        if self._connection.link is not None:
            with contextlib.suppress(LinkError):
                await self._send(self._connection.link, 0)
        await self._connection.close()

    async def _open(self) -> Link:
        self._used = self._renewal.current
        return await Link.open(self._used.heartbeats.url.reveal())

    async def _beat(self, link: Link) -> None:
        metrics.AMQP_CONNECTIONS.labels("heartbeats").inc()
        metrics.AMQP_CONNECTED.labels("heartbeats").set(1)
        while True:
            await self._send(link, self._period)
            metrics.HEARTBEATS.inc()
            self.first.set()
            await asyncio.sleep(self._period)

    async def _send(self, link: Link, period: float) -> None:
        body = status_report.heartbeat(self._used.endpoint_id, period)
        try:
            async with asyncio.timeout(_CONFIRM_LIMIT):
                await link.publish(self._used.heartbeats.envelope(), body)
        except TimeoutError as error:
            raise LinkError("a heartbeat wasn't confirmed in time") from error
        except RefusedMessageError as error:
            raise LinkError(str(error)) from error

    async def _lost(self, error: LinkError, delay: float) -> None:
        metrics.AMQP_CONNECTED.labels("heartbeats").set(0)
        if isinstance(error, LinkRefused):
            await self._renewal.renew(self._used)
        else:
            log.warning("can't send heartbeats; reconnecting in %.1f s: %s", delay, error)
