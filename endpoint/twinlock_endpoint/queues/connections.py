"""The endpoint's AMQP connections: one for each URL that the document names, which is one as a rule."""

import asyncio
import logging
from collections.abc import Callable
from functools import partial

from twinlock_common.amqp.connection import parameters
from twinlock_common.amqp.envelope import Envelope
from twinlock_common.amqp.errors import LinkError
from twinlock_common.amqp.link import Link
from twinlock_common.amqp.reconnector import Reconnector
from twinlock_common.document import DocumentError, Queues
from twinlock_common.queues import Destination

from twinlock_endpoint.config.configuration import Config
from twinlock_endpoint.queues.consumer import TaskConsumer
from twinlock_endpoint.queues.results import Results

log = logging.getLogger(__name__)


class Connections:
    """The connections to `queues`, and what is published over them. Nothing is opened yet.

    `DocumentError` is raised if a URL, or what the document says about publishing, can't be used.
    """

    def __init__(
        self, queues: Queues, config: Config, consumer: TaskConsumer, on_down: Callable[[LinkError], None]
    ) -> None:
        self._config = config
        self._consumer = consumer
        self._on_down = on_down
        self._urls = self._checked(queues)
        self.results = Results(_envelope(queues.results))
        """What publishes results, over whichever connection is theirs."""
        self._heartbeat = _envelope(queues.heartbeats)
        self._heartbeat_link: Link | None = None
        self._connections = [
            Reconnector(partial(self._open, names[0]), partial(self._use, names), self._lost)
            for names in _sharing(self._urls)
        ]
        self._running: list[asyncio.Task[None]] = []

    def open(self) -> None:
        """Start to connect."""
        self._running = [asyncio.create_task(one.run()) for one in self._connections]

    async def close(self) -> None:
        """Close for good."""
        for running in self._running:
            running.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        for one in self._connections:
            await one.close()

    def renew(self, queues: Queues) -> None:
        """Use fresh credentials: what is connected stays so, and they count from the next connection on.

        Raise `DocumentError` if they can't be used; then nothing changes.
        """
        urls, results, heartbeat = self._checked(queues), _envelope(queues.results), _envelope(queues.heartbeats)
        self._urls, self.results.envelope, self._heartbeat = urls, results, heartbeat
        self._consumer.queue = queues.tasks.queue
        for one in self._connections:
            one.hurry()

    def offer_heartbeat(self, body: bytes) -> asyncio.Future[None] | None:
        """Publish if there is a connection, see `Link.publish`. What is lost with the connection stays lost."""
        if self._heartbeat_link is None:
            return None
        sent = self._heartbeat_link.publish(self._heartbeat, body)
        sent.add_done_callback(_report)
        return sent

    async def _open(self, name: str) -> Link:
        return await Link.open(self._urls[name], self._config.amqp_port, self._config.heartbeat_threshold)

    async def _use(self, names: list[str], link: Link) -> None:
        if "results" in names:
            self.results.use(link)
        if "heartbeats" in names:
            self._heartbeat_link = link
        if "tasks" in names:
            await self._consumer.use(link)

    async def _lost(self, error: LinkError, delay: float) -> None:
        log.warning("No connection to RabbitMQ, next try in %.1f s: %s", delay, error)
        self._on_down(error)

    def _checked(self, queues: Queues) -> dict[str, str]:
        """Return the URLs, by what they are for. Raise `DocumentError`."""
        urls = {"results": queues.results.url, "heartbeats": queues.heartbeats.url, "tasks": queues.tasks.url}
        try:
            for url in urls.values():
                parameters(url, self._config.amqp_port, self._config.heartbeat_threshold)
        except ValueError:
            raise DocumentError("The start document has a connection_url that can't be used.") from None
        return urls


def _report(sent: asyncio.Future[None]) -> None:
    if sent.exception() is not None:
        log.warning("A heartbeat is lost: %s", sent.exception())


def _sharing(urls: dict[str, str]) -> list[list[str]]:
    """Return the names that have a URL in common."""
    return [[name for name in urls if urls[name] == url] for url in dict.fromkeys(urls.values())]


def _envelope(destination: Destination) -> Envelope:
    try:
        return Envelope(**{"mandatory": False} | destination.publish)
    except Exception as error:  # several, see `Envelope`
        raise DocumentError(f"The start document has queue_publish_kwargs that can't be used ({error}).") from None
