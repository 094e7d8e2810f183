"""Where the broker consumes and publishes, by the credentials that the service hands out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from twinlock_common import queues
from twinlock_common.amqp.envelope import Envelope

from twinlock_broker.secret import Secret

_PERSISTENT = 2


@dataclass(frozen=True, slots=True)
class Source:
    """A queue to consume from."""

    url: Secret[str]
    """RabbitMQ's address, with the password."""
    queue: str
    """The queue's name."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where to publish."""

    url: Secret[str]
    """RabbitMQ's address, with the password."""
    exchange: str
    """The exchange that takes the message."""
    routing_key: str
    """By which the exchange finds the queue."""
    delivery_mode: int
    """AMQP's: 1 transient, 2 persistent."""

    def envelope(self) -> Envelope:
        """Return what surrounds a message that is published there."""
        return Envelope(self.exchange, self.routing_key, {"delivery_mode": self.delivery_mode})


def read_source(info: Any, port: int | None) -> Source:
    """Read the `command_queue_info` of a registration. `port` replaces the URL's. Raise `ValueError`."""
    found = queues.read_source(info)
    return Source(_url(found.url, port), found.queue)


def read_target(info: Any, port: int | None) -> Target:
    """Read a `heartbeat_queue_info` with its `queue_publish_kwargs`. `port` replaces the URL's. Raise `ValueError`."""
    found = queues.read_destination(info)
    properties = found.publish.get("properties")
    mode = properties.get("delivery_mode") if isinstance(properties, Mapping) else None
    lasting = mode if mode in (1, 2) else _PERSISTENT
    return Target(_url(found.url, port), found.publish["exchange"], found.publish["routing_key"], lasting)


def _url(url: str, port: int | None) -> Secret[str]:
    if port is None:
        return Secret(url)
    parts = urlsplit(url)
    login, at, host = parts.netloc.rpartition("@")
    name = host if host.endswith("]") else host.rpartition(":")[0] or host  # [::1] keeps its colons
    return Secret(parts._replace(netloc=f"{login}{at}{name}:{port}").geturl())
