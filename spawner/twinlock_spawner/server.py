"""The loop and the connection: one broker at a time, each datagram one decision. Single-threaded: fork is safe so."""

import contextlib
import selectors
import signal
import socket

from twinlock_shared import wire

from twinlock_spawner.audit import Audit
from twinlock_spawner.channel import Channel, ChannelError, close_all
from twinlock_spawner.policy import Policy
from twinlock_spawner.table import Refusal, Table


class Server:
    """The spawner at work."""

    def __init__(self, policy: Policy, broker_uid: int, listener: socket.socket, audit: Audit) -> None:
        self._broker_uid = broker_uid
        self._listener = listener
        self._audit = audit
        self._channel: Channel | None = None
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ, self._accept)
        self._table = Table(policy, audit, self._selector, self._send)
        self._stop_requested = False

    def run(self) -> None:
        """Serve until SIGTERM, SIGINT or SIGHUP; then end every child and return."""
        wakeup = self._catch_signals()
        self._selector.register(wakeup, selectors.EVENT_READ, lambda: wakeup.recv(512))
        stopping = False
        while not (stopping and self._table.empty()):
            for key, _ in self._selector.select(self._table.patience()):
                key.data()
            self._table.advance()
            if self._stop_requested and not stopping:
                stopping = True
                self._audit.line("stopping")
                self._table.stop()
        self._audit.line("stopped")

    def _catch_signals(self) -> socket.socket:
        """Handlers only set a flag; Python writes each signal's number into the socket that wakes the loop up."""
        reader, writer = socket.socketpair()
        reader.setblocking(False)
        writer.setblocking(False)
        signal.set_wakeup_fd(writer.detach())
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._request_stop)
        return reader

    def _request_stop(self, *_: object) -> None:
        self._stop_requested = True

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError as error:  # the peer is gone already, or no file descriptor is free
            self._audit.line("connection-refused", reason=str(error))
            return
        try:
            if self._channel is not None:
                raise ChannelError("there is a connection already")
            channel = Channel(connection, self._broker_uid)
        except ChannelError as error:
            self._audit.line("connection-refused", reason=str(error))
            connection.close()
            return
        self._channel = channel
        self._audit.line("connected", pid=channel.pid)
        self._selector.register(channel, selectors.EVENT_READ, self._read)
        self._send(wire.Hello(wire.VERSION))

    def _hang_up(self, reason: str) -> None:
        if self._channel is not None:
            self._audit.line("disconnected", reason=reason)
            self._selector.unregister(self._channel)
            self._channel.close()
            self._channel = None

    def _send(self, reply: wire.Reply) -> None:
        """Without a broker nothing is lost: what counts is in the table, and the next broker asks for it."""
        if self._channel is not None:
            try:
                self._channel.send(reply)
            except ChannelError as error:
                self._hang_up(str(error))

    def _read(self) -> None:
        if self._channel is None:  # hung up earlier in this round of the loop
            return
        try:
            received = self._channel.receive()
        except ChannelError as error:
            self._hang_up(str(error))
            return
        if received is None:
            self._hang_up("the broker closed it")
            return
        request, fds = received
        with contextlib.ExitStack() as stack:
            stack.callback(close_all, fds)
            self._answer(request, fds)

    def _answer(self, request: wire.Request, fds: list[int]) -> None:
        try:
            if isinstance(request, wire.Spawn):
                self._table.spawn(request, *fds)
            elif isinstance(request, wire.Signal):
                self._table.signal(request)
            elif isinstance(request, wire.Noted):
                self._table.forget(request)
            else:
                self._list()
        except Refusal as refusal:
            child = request.id if not isinstance(request, wire.List) else ""
            self._audit.line("refused", id=child, stage=refusal.stage, reason=str(refusal))
            self._send(wire.Refused(child, refusal.stage, str(refusal)))

    def _list(self) -> None:
        rows = self._table.rows()
        for start in range(0, max(len(rows), 1), wire.MAX_PAGE):
            end = start + wire.MAX_PAGE
            self._send(wire.Children(rows[start:end], end < len(rows)))
