"""Credentials of queues, as the service hands them out: at a registration, and in `amqp_creds` for a user endpoint."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

_MAX_URL = 4096
_MAX_NAME = 255
"""Bytes of the name of a queue or an exchange, and of a routing key: AMQP 0-9-1, `shortstr`."""


@dataclass(frozen=True, slots=True)
class Source:
    """A queue to consume from."""

    url: str = field(repr=False)
    """RabbitMQ's address, with a password: it stays out of every repr."""
    queue: str
    """The queue's name."""


@dataclass(frozen=True, slots=True)
class Destination:
    """Where messages of one kind are published."""

    url: str = field(repr=False)
    """RabbitMQ's address, with a password: it stays out of every repr."""
    publish: dict[str, Any]
    """The keys exchange, routing_key, mandatory and properties, as the service has them."""


def read_source(info: Any) -> Source:
    """Read a `command_queue_info` or `task_queue_info`. Raise `ValueError`, whose text holds no credential."""
    return Source(_url(info), _name(info, "queue"))


def read_destination(info: Any) -> Destination:
    """Read a `heartbeat_queue_info` or `result_queue_info`. Raise `ValueError`, whose text holds no credential."""
    url = _url(info)
    publish = info.get("queue_publish_kwargs")
    _name(publish, "exchange", least=0)  # the default exchange has an empty name
    _name(publish, "routing_key")
    return Destination(url, dict(publish))


def _name(info: Any, key: str, least: int = 1) -> str:
    value = info.get(key) if isinstance(info, Mapping) else None
    if not isinstance(value, str) or not least <= len(value.encode("utf-8", "replace")) <= _MAX_NAME:
        raise ValueError(f"{key} is missing or isn't a short text")
    return value


def _url(info: Any) -> str:
    value = info.get("connection_url") if isinstance(info, Mapping) else None
    if not isinstance(value, str) or len(value) > _MAX_URL:
        raise ValueError("connection_url is missing or isn't a text")
    try:
        parts = urlsplit(value)
        _ = parts.port  # raises ValueError if it isn't a port number
        good = parts.scheme in ("amqp", "amqps") and parts.hostname
    except ValueError:  # its text would quote the URL
        good = False
    if not good:
        raise ValueError("connection_url isn't an amqp or amqps address")
    return value
