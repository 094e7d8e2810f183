"""The connection to the manager endpoint: fresh credentials come down, figures and audit records go up.

JSON lines with a `type` on a Unix socket. The other side knows by the kernel's word who this process is. Down:
``credentials`` {amqp_creds}, ``audited`` {number}, ``unaudited`` {number}, ``end`` {reason}, ``report``, which asks for
figures as of now. Up: ``figures`` {figures, condition, jobs, histograms, reports: it understands ``report``, and in
verified mode who has signed}, ``audit`` {number, records}, ``journal`` {tasks}, their number: while it isn't 0,
another endpoint has to be started if this one dies, ``stop``, if its user stops it.
"""

import asyncio
import json
import logging
import socket
from collections.abc import Callable, Mapping
from typing import Any

from twinlock_common.backoff import delays
from twinlock_common.peercred import peer_of

log = logging.getLogger(__name__)

_MAX_LINE = 1 << 20
_LONGEST_DELAY_S = 15.0

Handler = Callable[[dict[str, Any]], None]
"""A function that takes a message. It raises `ValueError` if the message makes no sense; that ends the connection."""


class Control:
    """The connection to the socket at `path`, made again whenever it is lost, for as long as the endpoint lives."""

    def __init__(
        self, path: str, handlers: Mapping[str, Handler], connected: Callable[[], None], uid: int | None = None
    ) -> None:
        """Prepare to connect; with a `uid` only to a socket that a process of this account made."""
        self._path = path
        self._uid = uid
        self._handlers = handlers
        self._connected = connected
        self._writer: asyncio.StreamWriter | None = None

    async def run(self) -> None:
        """Connect, listen, and begin again, without end; do nothing if there is no path."""
        if not self._path:
            return
        waits, level = delays(most=_LONGEST_DELAY_S), logging.INFO
        while True:
            try:
                reader, self._writer = await asyncio.open_unix_connection(self._path, limit=_MAX_LINE)
                self._check(self._writer.get_extra_info("socket"))
                log.info("Connected to the manager endpoint")
                self._connected()
                waits, level = delays(most=_LONGEST_DELAY_S), logging.INFO
                await self._listen(reader)
                log.info("The manager endpoint hung up")
            except (OSError, ValueError) as error:
                log.log(level, "No manager endpoint: %s", error)
            finally:
                self._drop()
            level = logging.DEBUG
            await asyncio.sleep(next(waits))

    def send(self, message: dict[str, Any]) -> bool:
        """Send a message. Return False while there is no connection, or nobody reads at its other end."""
        writer = self._writer
        if writer is None or writer.is_closing() or writer.transport.get_write_buffer_size() > _MAX_LINE:
            return False
        writer.write(json.dumps(message).encode() + b"\n")
        return True

    def _check(self, sock: socket.socket) -> None:
        """Raise `ValueError` if the socket isn't that of the account that it has to be."""
        uid = peer_of(sock).uid
        if self._uid not in (None, uid):
            raise ValueError(f"{self._path} belongs to uid {uid}, and the manager endpoint runs under {self._uid}")

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            message = json.loads(line)
            handler = self._handlers.get(str(message.get("type"))) if isinstance(message, dict) else None
            if handler is None:
                raise ValueError("it sent a message of an unknown type")
            handler(message)

    def _drop(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
