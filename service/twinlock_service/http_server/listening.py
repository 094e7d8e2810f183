"""Where the service listens: HTTP, and with a certificate HTTPS beside it."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import socket
import ssl

from aiohttp import web

from twinlock_service.errors import StartError
from twinlock_service.http_server.certificate import Certificate
from twinlock_service.http_server.connections import Connection, Runner, Secured
from twinlock_service.users.users_file import Settings

log = logging.getLogger(__name__)

_BACKLOG = 4096
"""
Connections that the kernel keeps until they are accepted, if net.core.somaxconn allows as many.

Whoever comes beyond that tries again after a second.
"""

_ACCEPTED_AT_ONCE = 16
"""Connections that are accepted in one round of the loop. What else is to be done goes on between two rounds."""

_Place = tuple[str, int, ssl.SSLContext | None]


def given_certificate(settings: Settings) -> Certificate | None:
    """Return the certificate that the settings name, or None. Raise `StartError` if it can't be used."""
    if settings.tls_certificate is None or settings.tls_key is None:
        return None
    return Certificate(settings.tls_certificate, settings.tls_key)


async def listen(runner: Runner, host: str, port: int, tls_port: int, certificate: Certificate | None) -> list[str]:
    """Begin to serve, and return the URLs. Raise `StartError` if it can't listen, such as on a port that is in use."""
    places = _places(host, port, tls_port, certificate)
    for place in places:
        await _listen(runner, *place)
    return [f"{'https' if tls else 'http'}://{f'[{name}]' if ':' in name else name}:{at}" for name, at, tls in places]


def _places(host: str, port: int, tls_port: int, certificate: Certificate | None) -> list[_Place]:
    if certificate is not None:
        # The SDK speaks HTTP to localhost, whatever there is beside it.
        return [(host if _is_loopback(host) else "127.0.0.1", port, None), (host, tls_port, certificate.context)]
    if not _is_loopback(host):
        log.warning("the network can read the tokens that are sent to %s; set tls_certificate and tls_key", host)
    return [(host, port, None)]


class _Site(web.TCPSite):
    """An address on which HTTP or HTTPS is served.

    aiohttp's own site reports a connection only after the TLS handshake, which may never end. It also accepts as many
    connections in one round of the loop as the kernel may keep waiting.
    """

    def __init__(self, runner: Runner, host: str, port: int, tls: ssl.SSLContext | None) -> None:
        super().__init__(runner, host, port, backlog=_ACCEPTED_AT_ONCE)
        self._connections = runner.server
        self._tls = tls

    async def start(self) -> None:
        await web.BaseSite.start(self)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._connection, self._host, self._port, backlog=self._backlog)
        for listening in self._server.sockets:
            _let_wait(listening.fileno())

    def _connection(self) -> Connection | Secured:
        if self._connections is None:
            raise RuntimeError("the runner wasn't set up")
        connection = self._connections()
        return connection if self._tls is None else Secured(connection, self._tls)


def _let_wait(listening: int) -> None:
    """Have the kernel keep more connections waiting than asyncio asked for.

    asyncio uses one number for this and for how many connections it accepts in one round of the loop.
    """
    with socket.socket(fileno=os.dup(listening)) as same:
        same.listen(_BACKLOG)


async def _listen(runner: Runner, host: str, port: int, tls: ssl.SSLContext | None) -> None:
    try:
        await _Site(runner, host, port, tls).start()
    except OSError as error:
        key = "tls_port" if tls else "--port"
        text = f"can't listen on {host}:{port}: {error.strerror}; choose another {key}"
        raise StartError(os.EX_UNAVAILABLE, text) from None


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
