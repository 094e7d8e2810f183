"""The endpoint's AMQP connections: one for each URL that the document names, which is one as a rule."""

from collections.abc import Callable
from dataclasses import dataclass

from twinlock_endpoint.config import Config
from twinlock_endpoint.consumer import TaskConsumer
from twinlock_endpoint.document import Document
from twinlock_endpoint.errors import DocumentError
from twinlock_endpoint.link import ChannelUser, Link, parameters
from twinlock_endpoint.publisher import Publisher


@dataclass(frozen=True, slots=True)
class Connections:
    """The links, and the publishers of results and heartbeats, which share a channel where they share a URL."""

    links: list[Link]
    results: Publisher
    heartbeats: Publisher


def make(
    document: Document, config: Config, consumer: TaskConsumer, on_down: Callable[[BaseException], None]
) -> Connections:
    """Set the connections up; nothing is opened yet. DocumentError where a URL can't be used."""
    publishers = {url: Publisher() for url in (document.results.url, document.heartbeats.url)}
    users: dict[str, list[ChannelUser]] = {url: [publisher] for url, publisher in publishers.items()}
    users.setdefault(document.tasks.url, []).append(consumer)
    try:
        links = [
            Link(parameters(url, config.amqp_port, config.heartbeat_threshold), of_url, on_down)
            for url, of_url in users.items()
        ]
    except ValueError:
        raise DocumentError("The start document has a connection_url that can't be used.") from None
    return Connections(links, publishers[document.results.url], publishers[document.heartbeats.url])
