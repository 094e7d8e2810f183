"""The admission of connections at a socket that every account can reach: nobody may take the place of all others.

A connection that isn't wanted is closed as it is accepted, which costs little. The others are tasks.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from twinlock_common.log_ration import LogRation
from twinlock_common.peercred import Peer, peer_of

from twinlock_broker import descriptors, metrics
from twinlock_broker.control import bytes_only
from twinlock_broker.ration import Rations

MOST_UNKNOWN = 16
"""Connections that an account may have besides those that are known to be an endpoint's, see `Visitor.known`."""

RATE = 16.0
"""Connections a second that an account may make on average."""

AT_ONCE = 256.0
"""Connections that an account may make at once: all its endpoints come when a broker starts."""

_PAUSE = 1.0  # seconds until the next try if the kernel has no descriptor or no memory for a connection

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Visitor:
    """A connection, and whose it is by the kernel's word. An endpoint has one connection only."""

    socket: socket.socket
    """The connection itself."""
    pid: int
    """The process that connected."""
    uid: int
    """Its account."""
    known: Callable[[], None]
    """To be called once the connection is known to be an endpoint's: it no longer counts against `MOST_UNKNOWN`."""


class Door:
    """The entrance to `listener`, the socket called `name`: it accepts connections and has `serve` called with them."""

    def __init__(self, name: str, listener: socket.socket, serve: Callable[[Visitor], Awaitable[None]]) -> None:
        self._name = name
        self._listener = listener
        bytes_only.refuse_descriptors(listener)
        self._serve = serve
        self._tasks: set[asyncio.Task[None]] = set()
        self._unknown: dict[int, set[socket.socket]] = {}
        self._rations = Rations(RATE, AT_ONCE)
        self._log = LogRation(log, metrics.DROPPED_LOG_LINES.inc)

    async def run(self) -> None:
        """Accept without end, whatever becomes of one connection; the connections end with it."""
        try:
            while True:
                try:
                    await self._accept()
                except Exception:
                    log.exception("%s: accepting a connection failed unexpectedly; the next ones come in", self._name)
                    await asyncio.sleep(_PAUSE)
                await asyncio.sleep(0)  # accepting doesn't wait while there are connections, and others have work too
        finally:
            for task in self._tasks:
                task.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks)

    async def _accept(self) -> None:
        if bytes_only.crowded():
            text = "%s: no connection is accepted while %d to which descriptors were sent are being closed"
            self._log.warning("crowded", text, self._name, bytes_only.MOST_CLOSING)
            await asyncio.sleep(_PAUSE)
            return
        try:
            accepted, _ = await asyncio.get_running_loop().sock_accept(self._listener)
        except OSError as error:
            self._log.warning("no connection", "%s: no connection can be accepted: %s", self._name, error.strerror)
            await asyncio.sleep(_PAUSE)
            return
        sock = bytes_only.BytesOnly(accepted)
        with contextlib.ExitStack() as failed:
            failed.callback(sock.close)
            self._choose(sock)
            failed.pop_all()

    def _choose(self, sock: socket.socket) -> None:
        """Let the connection in, or close it."""
        peer = peer_of(sock)
        reason = self._objection(sock, peer.uid)
        if reason:
            sock.close()
            metrics.DROPPED_CONNECTIONS.inc()
            self._log.warning(peer.uid, "%s: a connection of uid %d was refused: %s", self._name, peer.uid, reason)
        else:
            self._admit(sock, peer)

    def _objection(self, sock: socket.socket, uid: int) -> str:
        ration = self._rations.of(uid)
        if ration.wait():
            return f"more than {RATE:.0f} a second"
        ration.take()
        if len(self._unknown.get(uid, ())) >= MOST_UNKNOWN:
            return f"{MOST_UNKNOWN} of that account are open already"
        return "the broker has too many files open" if descriptors.reserved(sock.fileno()) else ""

    def _admit(self, sock: socket.socket, peer: Peer) -> None:
        self._unknown.setdefault(peer.uid, set()).add(sock)
        visitor = Visitor(sock, peer.pid, peer.uid, lambda: self._forget(sock, peer.uid))
        task = asyncio.create_task(self._receive(visitor))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _receive(self, visitor: Visitor) -> None:
        try:
            await self._serve(visitor)
        except ConnectionAbortedError as error:
            text = "%s: a connection of uid %d was closed: %s"
            self._log.warning(visitor.uid, text, self._name, visitor.uid, error.strerror)
        except Exception:  # it is about one client; the others don't notice
            log.exception("%s: a connection failed unexpectedly", self._name)
        finally:
            self._forget(visitor.socket, visitor.uid)

    def _forget(self, sock: socket.socket, uid: int) -> None:
        unknown = self._unknown.get(uid, set())
        unknown.discard(sock)
        if not unknown:
            self._unknown.pop(uid, None)
