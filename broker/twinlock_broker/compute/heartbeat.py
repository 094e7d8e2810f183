"""The manager endpoint's heartbeats."""

import asyncio
import contextlib
import logging

from twinlock_common.amqp.errors import LinkError, LinkRefused, RefusedMessageError
from twinlock_common.amqp.link import Link
from twinlock_common.backoff import delays

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
        self._link: Link | None = None
        self.first = asyncio.Event()
        """Set as soon as RabbitMQ has taken a heartbeat."""

    async def run(self) -> None:
        """Send without end, and reconnect whenever a connection fails. Raise `Fatal`, see `Renewal`."""
        waits = delays()
        while True:
            self._used = self._renewal.current
            try:
                self._link = await Link.open(self._used.heartbeats.url.reveal())
                metrics.AMQP_CONNECTIONS.labels("heartbeats").inc()
                metrics.AMQP_CONNECTED.labels("heartbeats").set(1)
                while True:
                    await self._send(self._period)
                    metrics.HEARTBEATS.inc()
                    self.first.set()
                    waits = delays()
                    await self._pause()
            except LinkRefused:
                await self._renewal.renew(self._used)
            except (LinkError, RefusedMessageError) as error:
                log.warning("no heartbeat goes out, the connection is made anew: %s", error)
                await self._drop()
            await asyncio.sleep(next(waits))

    async def say_goodbye(self) -> None:
        """Tell the service that the endpoint shuts down. Without a connection the service finds out by itself."""
        if self._link is not None:
            with contextlib.suppress(LinkError, RefusedMessageError):
                await self._send(0)
        await self._drop()

    async def _send(self, period: float) -> None:
        if self._link is None:
            raise LinkError("there is no connection")
        target, body = self._used.heartbeats, status_report.heartbeat(self._used.endpoint_id, period)
        try:
            async with asyncio.timeout(_CONFIRM_LIMIT):
                await self._link.publish(target.exchange, target.routing_key, body, target.properties)
        except TimeoutError as error:
            raise LinkError("a heartbeat wasn't confirmed in time") from error

    async def _pause(self) -> None:
        if self._link is not None:
            with contextlib.suppress(TimeoutError):
                raise LinkError(await asyncio.wait_for(self._link.closed(), self._period))

    async def _drop(self) -> None:
        metrics.AMQP_CONNECTED.labels("heartbeats").set(0)
        if self._link is not None:
            await self._link.close()
            self._link = None
