"""Queues whose connections this host makes by its own rules, whatever else stands in their URLs."""

import ipaddress
from collections.abc import Collection
from dataclasses import replace
from typing import Any
from urllib.parse import SplitResult, quote, unquote, urlsplit

from twinlock_common import document
from twinlock_common.document import DocumentError, Queues
from twinlock_signed.keys import Address

_PORTS = {"amqp": 5672, "amqps": 5671}


def only(queues: Queues, allowed: Collection[Address]) -> Queues:
    """Return the queues with URLs made anew: of each only host, port, user, password and virtual host are taken.

    So the connection is encrypted and checked by the system's certificates; that to loopback may be plain. Raise
    `DocumentError` for another host, a connection that is neither, or a URL that asks for anything more.
    """
    return Queues(
        tasks=replace(queues.tasks, url=_made_anew(queues.tasks.url, allowed)),
        results=replace(queues.results, url=_made_anew(queues.results.url, allowed)),
        heartbeats=replace(queues.heartbeats, url=_made_anew(queues.heartbeats.url, allowed)),
    )


def read(allowed: Collection[Address], creds: dict[str, Any]) -> Queues:
    """Return the queues in `amqp_creds`, made anew. Raise `DocumentError`."""
    return only(document.queues(creds), allowed)


def _made_anew(url: str, allowed: Collection[Address]) -> str:
    parts = urlsplit(url)
    address = Address(parts.hostname or "", parts.port or _PORTS[parts.scheme])
    where = f"{address.host[:100]!r}, port {address.port}"
    if address not in allowed:
        raise DocumentError(
            f"The start document has a queue at {where}, which isn't among `amqp_hosts` of this site's verified.toml."
        )
    if parts.scheme == "amqp" and not _is_loopback(address.host):
        raise DocumentError(f"The start document has an unencrypted connection to {where}; it has to be amqps.")
    if parts.query or parts.fragment:
        raise DocumentError(f"The start document has a connection_url to {where} with options; none are allowed.")
    return f"{parts.scheme}://{_login(parts)}@{_netloc(address)}/{_virtual_host(parts)}"


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _login(parts: SplitResult) -> str:
    return ":".join(quote(unquote(part or ""), safe="") for part in (parts.username, parts.password))


def _netloc(address: Address) -> str:
    return f"[{address.host}]:{address.port}" if ":" in address.host else f"{address.host}:{address.port}"


def _virtual_host(parts: SplitResult) -> str:
    return quote(unquote(parts.path.removeprefix("/")), safe="")
