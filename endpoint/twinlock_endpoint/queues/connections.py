"""The endpoint's AMQP connections: one for each URL that the document names, which is one as a rule."""

import asyncio
from collections.abc import Callable

import pika
from twinlock_common.amqp.connection import parameters
from twinlock_common.document import DocumentError, Queues

from twinlock_endpoint.config.configuration import Config
from twinlock_endpoint.queues.connection import ChannelUser, ReconnectingConnection
from twinlock_endpoint.queues.consumer import TaskConsumer
from twinlock_endpoint.queues.publisher import Publisher


class Connections:
    """The connections to `queues`, and what is published over them. Nothing is opened yet.

    Results and heartbeats share a channel if they share a URL. `DocumentError` is raised if a URL can't be used.
    """

    def __init__(
        self, queues: Queues, config: Config, consumer: TaskConsumer, on_down: Callable[[BaseException], None]
    ) -> None:
        self._queues = queues
        self._config = config
        self._consumer = consumer
        publishers = {url: Publisher() for url in (queues.results.url, queues.heartbeats.url)}
        self._results, self._heartbeats = publishers[queues.results.url], publishers[queues.heartbeats.url]
        users: dict[str, list[ChannelUser]] = {url: [publisher] for url, publisher in publishers.items()}
        users.setdefault(queues.tasks.url, []).append(consumer)
        self._by_url = {
            url: ReconnectingConnection(self._parameters(url), of_url, on_down) for url, of_url in users.items()
        }
        self._names = {url: name for name, url in reversed(_urls(queues).items())}

    def open(self) -> None:
        """Start to connect."""
        for one in self._by_url.values():
            one.open()

    async def close(self) -> None:
        """Close for good."""
        for one in self._by_url.values():
            await one.close()

    def renew(self, queues: Queues) -> None:
        """Use fresh credentials: what is connected stays so, and they count from the next connection on.

        Raise `DocumentError` if they can't be used; then nothing changes.
        """
        fresh = _urls(queues)
        chosen = {url: self._parameters(fresh[name]) for url, name in self._names.items()}
        self._queues = queues
        self._consumer.queue = queues.tasks.queue
        for url, one in self._by_url.items():
            one.renew(chosen[url])

    def publish_result(self, body: bytes) -> asyncio.Future[None]:
        """Publish now or as soon as there is a connection. The future is done when the message is safe."""
        return self._results.publish(self._queues.results, body)

    def offer_heartbeat(self, body: bytes) -> None:
        """Publish if there is a connection."""
        self._heartbeats.offer(self._queues.heartbeats, body)

    async def drain(self, limit_s: float) -> None:
        """Wait until everything is confirmed, at most `limit_s` seconds each for results and for heartbeats."""
        await self._results.drain(limit_s)
        if self._heartbeats is not self._results:
            await self._heartbeats.drain(limit_s)

    def _parameters(self, url: str) -> pika.URLParameters:
        try:
            return parameters(url, self._config.amqp_port, self._config.heartbeat_threshold)
        except ValueError:
            raise DocumentError("The start document has a connection_url that can't be used.") from None


def _urls(queues: Queues) -> dict[str, str]:
    return {"results": queues.results.url, "heartbeats": queues.heartbeats.url, "tasks": queues.tasks.url}
