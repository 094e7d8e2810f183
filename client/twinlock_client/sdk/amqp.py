"""How to reach the queue of results. Of the service's URL, host, port, virtual host and login are taken, and no more.

pika would take the whole of it, and what follows the question mark can turn off the verification of the other side's
certificate, and have files of the user's loaded.
"""

import ssl
from urllib.parse import unquote, urlsplit

import pika
from twinlock_signed.errors import Refused

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_PORTS = {"amqps": 5671, "amqp": 5672}


def parameters(url: str, port: int | None = None) -> pika.ConnectionParameters:
    """Return the parameters of a connection: by TLS with the system's certificate authorities, or on this computer.

    Args:
        url: as the service says it.
        port: in place of the URL's.

    Raises:
        Refused: it isn't such a URL. The text has no password.
    """
    try:
        parts = urlsplit(url)
        host, said = parts.hostname or "", parts.port
    except (ValueError, TypeError, AttributeError):
        raise Refused("queue of results: the service says a URL that can't be read; try again later") from None
    if not host or parts.scheme not in _PORTS or (parts.scheme == "amqp" and host not in _LOOPBACK):
        raise Refused(
            f"queue of results: the service says {parts.scheme[:10]!r} to {host[:100]!r}, and only amqps protects the "
            "way there; report it"
        )
    virtual_host = unquote(parts.path[1:]) or "/"
    if not f"{host}{virtual_host}".isprintable():  # pika puts both into what it logs
        raise Refused("queue of results: the service says a URL with control characters; report it")
    return pika.ConnectionParameters(
        host=host,
        port=port or said or _PORTS[parts.scheme],
        virtual_host=virtual_host,
        credentials=pika.PlainCredentials(unquote(parts.username or ""), unquote(parts.password or "")),
        ssl_options=pika.SSLOptions(ssl.create_default_context(), host) if parts.scheme == "amqps" else None,
    )
