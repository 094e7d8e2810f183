"""AMQP addresses as the service hands them out, at registration and in each command."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from twinlock_broker.secret import Secret

_PERSISTENT = 2


@dataclass(frozen=True, slots=True)
class Source:
    """A queue to consume from."""

    url: Secret[str]
    queue: str


@dataclass(frozen=True, slots=True)
class Target:
    """Where to publish. `delivery_mode` is AMQP's: 1 transient, 2 persistent."""

    url: Secret[str]
    exchange: str
    routing_key: str
    delivery_mode: int

    @property
    def properties(self) -> dict[str, Any]:
        """Those of a message to it."""
        return {"delivery_mode": self.delivery_mode}


def read_source(info: Any, port: int | None) -> Source:
    """The `command_queue_info` of a registration; `port` replaces the URL's. Raises ValueError."""
    return Source(_url(info, port), _text(info, "queue"))


def read_target(info: Any, port: int | None) -> Target:
    """A `heartbeat_queue_info` with its `queue_publish_kwargs`; `port` replaces the URL's. Raises ValueError."""
    url = _url(info, port)
    kwargs = info.get("queue_publish_kwargs")
    exchange, routing_key = _text(kwargs, "exchange", least=0), _text(kwargs, "routing_key")
    properties = kwargs.get("properties")
    mode = properties.get("delivery_mode") if isinstance(properties, Mapping) else None
    return Target(url, exchange, routing_key, mode if mode in (1, 2) else _PERSISTENT)


def _text(info: Any, key: str, least: int = 1) -> str:
    value = info.get(key) if isinstance(info, Mapping) else None
    # 255 bytes is AMQP's own limit for these names
    if not isinstance(value, str) or not least <= len(value.encode("utf-8", "replace")) <= 255:
        raise ValueError(f"{key} is missing or isn't a short text")
    return value


def _url(info: Any, port: int | None) -> Secret[str]:
    value = info.get("connection_url") if isinstance(info, Mapping) else None
    if not isinstance(value, str) or len(value) > 4096:
        raise ValueError("connection_url is missing or isn't a text")
    parts = urlsplit(value)
    if parts.scheme not in ("amqp", "amqps") or not parts.hostname:
        raise ValueError("connection_url isn't an amqp or amqps address")
    if port is None:
        _ = parts.port  # raises ValueError where it isn't a port number
        return Secret(value)
    login, at, host = parts.netloc.rpartition("@")
    name = host if host.endswith("]") else host.rpartition(":")[0] or host  # [::1] keeps its colons
    return Secret(parts._replace(netloc=f"{login}{at}{name}:{port}").geturl())
