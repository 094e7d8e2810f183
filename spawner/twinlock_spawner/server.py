"""The spawner at work: one loop, one broker at a time, each datagram one request.

Whatever goes wrong with a request, a connection or an endpoint ends that alone.

Single-threaded, since fork is safe only so. What the broker asks for and is told stands in the audit log.
"""

import os
import selectors
import signal
import socket
import struct
import time
from collections.abc import Callable

from twinlock_wire import wire

from twinlock_spawner.audit import Audit
from twinlock_spawner.children import Children
from twinlock_spawner.descriptors import close_aside
from twinlock_spawner.policy import Policy
from twinlock_spawner.start import Failure

STOP = frozenset({signal.SIGTERM, signal.SIGINT})
"""What stops the spawner."""

RELOAD = signal.SIGHUP
"""What has it start over in place."""

_HARMLESS = {signal.SIGPIPE, signal.SIGXFSZ}
"""What a broker that is gone, or a limit on the size of files, would end the spawner with."""

_HOUR = 3600.0
"""Seconds that nothing may happen."""

_REST = 0.1
"""Seconds after something unforeseen, which may come again at once: that isn't to keep a processor busy."""

_CREDENTIALS = struct.Struct("3i")
"""``struct ucred`` of unix(7): pid, uid, gid."""

_ROOM = socket.CMSG_SPACE(_CREDENTIALS.size) + socket.CMSG_SPACE(struct.calcsize("253i"))
"""Bytes for all that can come with a datagram: SCM_MAX_FD of unix(7). recvmsg(2) may wait to close what has no room."""


class Server:
    """The listening socket, the broker's connection, the signals, and the children that come of it all."""

    def __init__(self, policy: Policy, listener: socket.socket, broker: int) -> None:
        """`broker` is the uid whose processes may connect. Raises `OSError` where there can be no audit log."""
        self.audit = Audit(policy.audit_log)
        self.signals: set[int] = set()
        self._listener = listener
        self._broker = broker
        self._connection: socket.socket | None = None
        self._selector = selectors.DefaultSelector()
        self.children = Children(policy, self.audit, self._selector, self._tell)
        # A connection that is made from now on has this too. An earlier self or systemd may have made it without.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        # Before this nobody can connect, whatever the umask; to one of systemd's, we are at the other end from now on.
        listener.listen(1)
        self._selector.register(listener, selectors.EVENT_READ, self._accept)
        self._take_signals()

    def _take_signals(self) -> None:
        """Note signals from now on, and wake up by them."""
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._selector.register(reader, selectors.EVENT_READ, lambda: os.read(reader, 4096))
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in (*STOP, RELOAD, signal.SIGCHLD, *_HARMLESS):
            signal.signal(number, lambda got, _: self.signals.add(got))
        for number in signal.valid_signals():
            if signal.getsignal(number) == signal.SIG_IGN:  # it would be so in the guards, too, and they wait for some
                signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])  # an earlier self blocked them
        signal.raise_signal(signal.SIGCHLD)  # for children that ended while that became us

    def run(self) -> bool:
        """Serve until SIGHUP, and return True; or until SIGTERM or SIGINT, and return False when all have ended."""
        while not self.stops():
            self._turn()
            if RELOAD in self.signals and self.children.are_settled():
                self.signals.remove(RELOAD)
                self.audit.end_period()
                return True
        self.children.terminate_all()
        while not self.children.have_ended():
            self._turn()
        self.audit.end_period()
        return False

    def stops(self) -> bool:
        """Return whether it is to stop."""
        return not self.signals.isdisjoint(STOP)

    def _turn(self) -> None:
        """Wait for something to happen or to be due; then reap, and do what is due."""
        wait = min(self.children.next_due() - time.monotonic(), _HOUR)
        for key, _ in self._selector.select(max(wait, 0.0)):
            self._attempt(key.data)
        if signal.SIGCHLD in self.signals:  # or else nobody has ended; to ask takes the longer the more there are
            self.signals.remove(signal.SIGCHLD)
            self._attempt(self.children.reap)
        self._attempt(self.children.look_after)

    def _attempt(self, act: Callable[[], object]) -> None:
        """Go on after whatever nobody foresaw."""
        try:
            act()
        except Exception as error:
            self.audit.record("surprise", reason=repr(error))
            signal.raise_signal(signal.SIGCHLD)  # it may have kept others from being reaped
            time.sleep(_REST)

    # The broker's connection.

    def _accept(self) -> None:
        """Take a new connection of the broker's in the place of the one that there is, or refuse it.

        The broker's process may have been replaced while another one, which it gave that to, keeps it open.
        """
        connection, _ = self._listener.accept()
        try:
            peer = self._check_peer(connection)
            self.hang_up("the broker has connected anew")
            self._selector.register(connection, selectors.EVENT_READ, lambda: self._receive(connection, peer))
        except OSError as error:
            self.audit.record_repeatable("connection-refused", reason=str(error))
            close_aside([connection.detach()])
            return
        self._connection = connection
        self.audit.record_repeatable("hello")
        for version in wire.VERSIONS:
            self._tell(wire.Hello(version))

    def _check_peer(self, connection: socket.socket) -> bytes:
        """Return the credentials of who called connect(2), and have each datagram come with its sender's.

        Raises `PermissionError` where that isn't the broker, or where its pid has no meaning here: pid_namespaces(7).
        """
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, uid, _ = _CREDENTIALS.unpack(credentials)
        if uid != self._broker or pid == 0:
            raise PermissionError(f"process {pid} with uid {uid} is not the broker")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        return credentials

    def hang_up(self, reason: str) -> None:
        """End the broker's connection, if there is one."""
        connection = self._connection
        if connection is None:
            return
        self._connection = None
        self._selector.unregister(connection)
        self.audit.record_repeatable("disconnected", reason=reason)
        close_aside([connection.detach()])

    def _tell(self, reply: wire.Reply) -> None:
        """Send to the broker. Without one nothing is lost: the next one asks for the table."""
        connection = self._connection
        if connection is None:
            return
        try:
            connection.send(wire.encode(reply), socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)
        except OSError as error:  # it is gone, or reads so slowly that its buffer is full
            self.hang_up(f"send: {error}")

    def _receive(self, connection: socket.socket, peer: bytes) -> None:
        """Take one datagram and carry out what it asks for. Whatever is wrong with it ends the connection."""
        if connection is not self._connection:  # it was hung up earlier in this turn
            return
        files: list[int] = []
        try:
            request = _read(connection, peer, files)
            self._carry_out(request, files)
        except Exception as error:
            self.hang_up(repr(error))
        finally:
            if files:
                close_aside(files)

    def _carry_out(self, request: wire.Request, files: list[int]) -> None:
        match request:
            case wire.Spawn():
                self._spawn(request, files)
            case wire.Signal():
                self.children.signal(request)
            case wire.Noted():
                self.children.note(request)
            case _:  # wire.List
                self._list()

    def _spawn(self, request: wire.Spawn, files: list[int]) -> None:
        if self.stops() or RELOAD in self.signals:
            self.children.refuse(request, Failure("rate", "the spawner stops or starts over; again in 1 s"))
        else:
            self.children.start(request, files)

    def _list(self) -> None:
        """Send the table in pages; the last one isn't full."""
        self.audit.record_repeatable("list")
        rows = self.children.rows()
        for first in range(0, len(rows) + 1, wire.MAX_PAGE):
            self._tell(wire.Children(rows[first : first + wire.MAX_PAGE]))


def _read(connection: socket.socket, peer: bytes, files: list[int]) -> wire.Request:
    """Read the next request; the descriptors that come with it are added to `files`, also where it is refused.

    Raises `WireError`, and `OSError` where there is no connection any more, or its `peer` isn't the one that sends.
    """
    how = socket.MSG_CMSG_CLOEXEC | socket.MSG_DONTWAIT
    data, ancillary, flags, _ = connection.recvmsg(wire.MAX_DATAGRAM + 1, _ROOM, how)
    parts = {kind: content for _, kind, content in ancillary}  # one of a kind at most
    files.extend(memoryview(parts.get(socket.SCM_RIGHTS, b"")).cast("i"))
    if not data:
        raise ConnectionResetError("nothing more comes")
    if parts.get(socket.SCM_CREDENTIALS) != peer:
        raise PermissionError("another process than the one that has connected sends")
    request: wire.Request = wire.decode(data, wire.REQUESTS)
    expected = wire.SPAWN_FDS if isinstance(request, wire.Spawn) else 0
    if len(files) != expected or flags & socket.MSG_CTRUNC:
        raise wire.WireError(f"{type(request).__name__} with {len(files)} file descriptors, or more")
    return request
