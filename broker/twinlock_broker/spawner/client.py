"""The spawner's client: it keeps the connection, matches answers with requests, and reports the children's ends."""

import asyncio
import logging
import os
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, Protocol

from twinlock_common.backoff import delays
from twinlock_common.peercred import Peer
from twinlock_wire import wire

from twinlock_broker import metrics
from twinlock_broker.errors import Fatal
from twinlock_broker.spawner.connection import SpawnerSocket

ANSWER_LIMIT = 60.0
"""Seconds that a start waits for the spawner to be there and to answer."""

LASTING = 5.0
"""Seconds after which a connection counts as good. If there are two brokers, each ends the other's on connecting."""

log = logging.getLogger(__name__)


class Listener(Protocol):
    """Whoever keeps the endpoints' states. Its methods don't block."""

    def listed(self, children: Sequence[wire.Child]) -> None:
        """Take over the spawner's whole table, after each connect and at the spawner's end.

        What isn't in it doesn't run, and what has `ended` in it isn't reported again.
        """

    def exited(self, child: str, status: int) -> Coroutine[Any, Any, None] | None:
        """Handle the end of the child `child` with the wait status `status`.

        Return what has to be waited for before the spawner may forget the end, if there is anything.
        """


class SpawnerLost(Exception):
    """The connection ended before the answer came."""


class SpawnerClient:
    """The connection to the spawner at `path`, made anew whenever it ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._socket: SpawnerSocket | None = None
        self._version = wire.VERSION
        self._table: dict[str, wire.Child] = {}
        self._answers: dict[str, asyncio.Future[wire.Spawned | wire.Refused]] = {}
        self._noting: set[asyncio.Task[None]] = set()
        self._since = 0.0  # when the connection was ready, by the loop's clock
        self.peer: Peer | None = None
        """The spawner's process, as of the newest connection; None before the first one."""
        self.ready = asyncio.Event()
        """Set while there is a connection whose children were listed."""

    def pid(self) -> int:
        """Return the spawner's process id, 0 before the first connection: the user endpoints' parent."""
        return self.peer.pid if self.peer else 0

    async def run(self, listener: Listener) -> None:
        """Keep the connection, without end, and tell `listener` of the children.

        Raise `Fatal` if it is not our spawner that answers.
        """
        waits = delays(first=0.1, most=5.0)
        while True:
            try:
                connection = await SpawnerSocket.connect(self._path)
                try:
                    await self._session(connection, listener)
                finally:
                    connection.close()
            except (OSError, wire.WireError) as error:
                if self.ready.is_set() and self._has_lasted():
                    waits = delays(first=0.1, most=5.0)
                self._lose()
                log.warning("no connection to the spawner at %s: %s", self._path, error)
                if not self._alive():
                    listener.listed([])  # its children have ended with it
            await asyncio.sleep(next(waits))

    async def spawn(self, request: wire.Spawn, fds: Sequence[int]) -> wire.Spawned | wire.Refused:
        """Have a child started, with `fds` as its stdin and output. Raise `TimeoutError` after `ANSWER_LIMIT`.

        If the connection is lost, another one is waited for; the start is neither lost nor doubled.
        """
        again = False
        async with asyncio.timeout(ANSWER_LIMIT):
            while True:
                await self.ready.wait()
                if again and (known := self._table.get(request.id)) is not None:
                    return _outcome(known)
                try:
                    return await self._ask(request, fds)
                except SpawnerLost:
                    again = True

    async def signal(self, child: str, signal: str) -> None:
        """Send TERM or KILL to a child. If the spawner is away, nothing happens."""
        await self._send(wire.Signal(child, signal))

    async def _ask(self, request: wire.Spawn, fds: Sequence[int]) -> wire.Spawned | wire.Refused:
        answer: asyncio.Future[wire.Spawned | wire.Refused] = asyncio.get_running_loop().create_future()
        self._answers[request.id] = answer
        if self._version < wire.WITH_COMMAND:
            request = request._replace(command="")
        try:
            if not await self._send(request, fds):
                raise SpawnerLost
            with metrics.ROUND_TRIP_SECONDS.time():
                return await answer
        finally:
            del self._answers[request.id]

    async def _session(self, connection: SpawnerSocket, listener: Listener) -> None:
        hello = await connection.receive()
        if not isinstance(hello, wire.Hello) or hello.version != wire.VERSION:
            raise Fatal(
                os.EX_PROTOCOL, f"{self._path}: not a spawner of this version (it said {hello}): update both together"
            )
        if self.peer is not None and self.peer.is_root != connection.peer.is_root:
            raise Fatal(os.EX_NOPERM, f"{self._path}: the spawner changed between root and same-user mode; restart")
        self._socket, self.peer, self._version = connection, connection.peer, hello.version
        await self._list(connection, listener)
        log.info("connected to the spawner, %d children", len(self._table))
        self.ready.set()
        self._since = asyncio.get_running_loop().time()
        metrics.SPAWNER_CONNECTED.set(1)
        while True:
            await self._receive(await connection.receive(), listener)

    async def _list(self, connection: SpawnerSocket, listener: Listener) -> None:
        """Get the whole table. An end that is reported meanwhile belongs in it."""
        await connection.send(wire.List())
        table: dict[str, wire.Child] = {}
        ended: dict[str, int] = {}
        more = True
        while more:
            reply = await connection.receive()
            if isinstance(reply, wire.Hello):
                self._version = reply.version
            elif isinstance(reply, wire.Exited):
                ended[reply.id] = reply.status
            elif isinstance(reply, wire.Children):
                table |= {child.id: child for child in reply.children}
                more = len(reply.children) == wire.MAX_PAGE
        table = {child.id: child._replace(ended=ended.get(child.id, child.ended)) for child in table.values()}
        self._table = table
        listener.listed(list(table.values()))
        for child in table.values():
            if child.ended is not None:
                await self._send(wire.Noted(child.id))

    async def _receive(self, reply: wire.Reply, listener: Listener) -> None:
        if isinstance(reply, wire.Exited):
            await self._exited(reply.id, reply.status, listener)
        elif isinstance(reply, wire.Refused) and reply.stage == "signal":
            log.info("the spawner says of %s: %s", reply.id, reply.reason)
        elif isinstance(reply, wire.Refused) and reply.stage == "duplicate":
            # it came on an earlier connection, or from an earlier broker; its answer, yet to come, answers this one too
            log.info("the first request for %s is still on its way from fork to exec", reply.id)
        elif isinstance(reply, wire.Spawned | wire.Refused) and reply.id in self._answers:
            answer = self._answers[reply.id]
            if not answer.done():
                answer.set_result(reply)
        elif isinstance(reply, wire.Spawned):
            raise wire.WireError(f"{reply.id} was started unasked; its table is read anew")
        else:
            log.warning("unexpected reply of the spawner: %s", reply)

    async def _exited(self, child: str, status: int, listener: Listener) -> None:
        rest = listener.exited(child, status)
        if rest is None:
            await self._send(wire.Noted(child))
            return
        noting = asyncio.create_task(self._note(child, rest))
        self._noting.add(noting)
        noting.add_done_callback(self._noting.discard)

    async def _note(self, child: str, rest: Coroutine[Any, Any, None]) -> None:
        """Have the spawner forget the end of a child once `rest` is done.

        It is told so before it can be asked for the child's next start.
        """
        await rest
        await self._send(wire.Noted(child))

    async def _send(self, request: wire.Request, fds: Sequence[int] = ()) -> bool:
        """Send a request and return whether it was sent.

        If it wasn't, the connection is given up; `run` makes another.
        """
        if self._socket is None:
            return False
        try:
            await self._socket.send(request, fds)
        except OSError:
            self.ready.clear()
            self._socket.hang_up()
            return False
        return True

    def _alive(self) -> bool:
        """Return whether the spawner's process is there, even if it can't be reached.

        Before the first connection its id is 0, which kill(2) takes for our own process group.
        """
        try:
            os.kill(self.pid(), 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # it is root's
            pass
        return True

    def _has_lasted(self) -> bool:
        return asyncio.get_running_loop().time() - self._since > LASTING

    def _lose(self) -> None:
        self.ready.clear()
        metrics.SPAWNER_CONNECTED.set(0)
        self._socket = None
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(SpawnerLost())


def _outcome(child: wire.Child) -> wire.Spawned | wire.Refused:
    if child.ended is None:
        return wire.Spawned(child.id, child.pid)
    return wire.Refused(child.id, "lost", "it ended while the spawner couldn't be reached")
