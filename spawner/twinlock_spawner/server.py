"""The spawner at work: one loop, one broker at a time, each datagram one request; and the children that come of it.

Single-threaded, since fork is safe only so. What the broker asks for and is told stands in the audit log.
"""

import contextlib
import os
import select
import selectors
import signal
import socket
import time
from collections import Counter

from twinlock_shared import wire

from twinlock_spawner.audit import Audit
from twinlock_spawner.child import Child, end_tree
from twinlock_spawner.guard import end_orphans
from twinlock_spawner.policy import Policy

# Seconds' worth of starts that may come at once; a program that ends within so many seconds costs as many starts more.
_BURST, _EARLY, _NEVER = 20.0, 5.0, float("inf")
STOP, _NOTED = {signal.SIGTERM, signal.SIGINT}, {signal.SIGCHLD, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ}


class Server:
    """The `children` by id, from their start until the broker has taken note of their end."""

    def __init__(self, policy: Policy, listener: socket.socket, broker: int) -> None:
        """`broker` is the uid whose processes may connect. Raises `OSError` where there can be no audit log."""
        self.policy, self.audit, self._listener, self._broker = policy, Audit(policy.audit_log), listener, broker
        # When to look at a child again, to give up, to kill, to try again. Until when an account's starts are paid; ""
        # stands for all accounts together. And the children by pid until they are reaped, and how many an account has.
        self.children, self.due, self._paid = dict[str, Child](), dict[Child, float](), dict[str, float]()
        self._running, self._own = dict[int, Child](), Counter[str]()
        self._connection: socket.socket | None = None
        self.signals, self._selector = set[int](), selectors.DefaultSelector()
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        # Before that nobody can connect, whatever the umask; to one of systemd's, we are at the other end from now on.
        listener.listen(1)
        self._selector.register(listener, selectors.EVENT_READ, self._accept)
        self._selector.register(reader, selectors.EVENT_READ, lambda: os.read(reader, 4096))
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)  # what Python writes there wakes the loop up
        # What is ignored, by Python or by who started us, would be so in the programs too: exec resets handlers only.
        ignored = {number for number in signal.valid_signals() if signal.getsignal(number) == signal.SIG_IGN}
        for number in STOP | _NOTED | ignored:
            signal.signal(number, (lambda got, _: self.signals.add(got)) if number in STOP | _NOTED else signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])  # an earlier self blocked them
        signal.raise_signal(signal.SIGCHLD)  # for children that ended while that became us

    def add(self, child: Child, due: float) -> None:
        """Have a child that was forked, now or by an earlier self, in all tables."""
        self.children[child.request.id] = child
        self._own[child.request.user] += 1
        if child.ended is None:
            self._running[child.pid], self.due[child] = child, due

    def run(self) -> bool:
        """Serve until SIGHUP: True, no child is just starting; or until SIGTERM or SIGINT: False, all have ended."""
        while not self.signals & STOP:
            self._turn()
            if signal.SIGHUP in self.signals and not any(c.report or c.failure for c in self.children.values()):
                self.signals.remove(signal.SIGHUP)
                return True
        for child in self.children.values():
            self._stop(child, "TERM", self.policy.stop_grace)
        while not all(child.ended is not None for child in self.children.values()):
            self._turn()
        return False

    def _turn(self) -> None:
        """Wait for something to happen or to be due; do it, reap, do what is due."""
        for key, _ in self._selector.select(min([time.monotonic() + 3600, *self.due.values()]) - time.monotonic()):
            key.data()
        with contextlib.suppress(KeyError, ChildProcessError):
            self.signals.remove(signal.SIGCHLD)  # or else nobody has ended; to ask takes the longer the more there are
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if (child := self._running.pop(ended[0], None)) and child.status is None:  # else it is an orphan
                    child.status, self.due[child] = ended[1], 0.0
        for child in [child for child, due in self.due.items() if due <= time.monotonic()]:
            del self.due[child]
            self._look_after(child)

    def _stop(self, child: Child, word: str, grace: float = 1.0) -> None:
        """TERM now and KILL after `grace` seconds, or KILL now, as it is where the program hasn't been executed yet.

        By a pidfd. It is opened now and means the right process, since the pid of a child that wasn't reaped can't come
        to mean another; a thousand that are kept open would be copied and closed in each fork.
        """
        if child.status is None:
            term = word == "TERM" and not child.report
            child.failure = child.failure or "timeout\nthe start took too long, or was called off" * bool(child.report)
            self.due[child] = min(self.due.get(child, _NEVER) if term else _NEVER, time.monotonic() + grace)
            end_tree("" if term else child.cgroup)  # who traces it hears of its end in our place (ptrace(2)): end all
            with contextlib.suppress(OSError), open(os.pidfd_open(child.pid), "rb", 0) as pidfd:  # or when it is due
                signal.pidfd_send_signal(pidfd.fileno(), signal.SIGTERM if term else child.kill)

    def _look_after(self, child: Child) -> None:
        """Kill what outstayed its time, end what it left behind, and say when nothing is left."""
        if child.status is None:
            self._stop(child, "KILL")
        elif child.report or not (end_tree(child.cgroup) if child.cgroup else end_orphans(child, self.children)):
            self.due[child] = time.monotonic() + 0.02
        elif child.failure:
            self._forget(child)
            self._tell(wire.Refused(child.request.id, *child.failure[: wire.MAX_TEXT].split("\n", 1)))
        else:
            child.ended = child.status
            if time.monotonic() - child.since < _EARLY:
                self._paid |= self._pay(child.request.user, self.policy.start_rate_per_user, _EARLY)
            self._tell(wire.Exited(child.request.id, child.pid, child.status))

    def _forget(self, child: Child) -> None:
        self._own -= Counter([self.children.pop(child.request.id).request.user])  # without those that come to 0

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
            # struct ucred, unix(7): as it was at connect(2)
            pid, uid, _ = memoryview(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)).cast("i")
            if self._connection or uid != self._broker:
                raise PermissionError(f"process {pid} with uid {uid} is not the broker, or not the first")
            self._selector.register(connection, selectors.EVENT_READ, lambda: self._read(connection))
            self._connection = connection
            self._tell(wire.Hello(wire.VERSION))
        except OSError as error:
            self.audit.line("connection-refused", reason=str(error))

    def _hang_up(self, connection: socket.socket, reason: str) -> None:
        self.audit.line("disconnected", reason=reason)
        self._selector.unregister(connection)
        connection.close()
        self._connection = None

    def _tell(self, reply: wire.Reply) -> None:
        """Without a broker nothing is lost: the next one asks for the table."""
        if not isinstance(reply, wire.Children):
            self.audit.line(type(reply).__name__.lower(), **reply._asdict())
        if connection := self._connection:
            try:
                connection.send(wire.encode(reply), socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)
            except OSError as error:  # it is gone, or reads so slowly that its buffer is full
                self._hang_up(connection, f"send: {error}")

    def _read(self, connection: socket.socket) -> None:
        fds: list[int] = []
        try:
            if connection is self._connection:  # else hung up earlier in this turn
                room, how = socket.CMSG_SPACE(4 * wire.SPAWN_FDS), socket.MSG_CMSG_CLOEXEC | socket.MSG_DONTWAIT
                data, ancillary, flags, _ = connection.recvmsg(wire.MAX_DATAGRAM + 1, room, how)
                fds = [fd for _, _, rights in ancillary for fd in memoryview(rights).cast("i")]
                request: wire.Request = wire.decode(data, wire.REQUESTS)
                if flags & socket.MSG_CTRUNC or len(fds) != wire.SPAWN_FDS * isinstance(request, wire.Spawn):
                    raise wire.WireError(f"{type(request).__name__} with {len(fds)} file descriptors, or more")
                self._carry_out(request, fds)
        except (wire.WireError, OSError) as error:
            self._hang_up(connection, str(error))
        finally:
            list(map(os.close, fds))

    def _carry_out(self, request: wire.Request, fds: list[int]) -> None:
        accounted = self.audit.line(type(request).__name__.lower(), **request._asdict())
        child = self.children.get(getattr(request, "id", ""))
        if isinstance(request, wire.Spawn):
            self._spawn(request, fds, accounted)
        elif isinstance(request, wire.List):
            rows = [child.row() for child in self.children.values() if not (child.report or child.failure)]
            for start in range(0, len(rows) + 1, wire.MAX_PAGE):
                self._tell(wire.Children(rows[start : start + wire.MAX_PAGE]))
        elif isinstance(request, wire.Signal) and child:
            self._stop(child, request.signal, self.policy.stop_grace)
        elif isinstance(request, wire.Signal):
            self._tell(wire.Refused(request.id, "signal", "there is no such endpoint"))
        elif child and child.ended is not None:
            self._forget(child)

    def _spawn(self, request: wire.Spawn, fds: list[int], accounted: bool) -> None:
        policy, user, now = self.policy, request.user, time.monotonic()
        paid = self._pay("", policy.start_rate) | self._pay(user, policy.start_rate_per_user)
        for forbidden, stage, reason in (
            (self.signals & {signal.SIGHUP, *STOP}, "rate", "the spawner stops or starts over; again in 1 s"),
            (not accounted, "audit", "the audit log can't be written"),
            (request.id in self.children, "duplicate", "it is in the table already"),
            (request.program not in policy.programs, "policy", f"the policy has no program {request.program}"),
            (len(self.children) >= policy.max_children, "limit", "the host has as many as it may have"),
            (self._own[user] >= policy.max_children_per_user, "limit", f"account {user} has as many as it may have"),
            (max(paid.values()) > now, "rate", f"too many starts; again in {int(max(paid.values()) - now) + 1} s"),
        ):
            if forbidden:
                return self._tell(wire.Refused(request.id, stage, reason))
        child = Child(policy, self.audit, request, fds, policy.cgroup and f"{policy.cgroup}/{os.getpid()}/{request.id}")
        try:
            report = child.start()
        except OSError as error:
            with contextlib.suppress(OSError):  # there may be none
                os.rmdir(child.cgroup)
            return self._tell(wire.Refused(request.id, "fork", f"the host can't start another: {error}"))
        # In most cases it is done then. Until that, whatever either of us writes to has to be copied for the other.
        # Only a wait: select(2) knows no descriptors from 1024 on.
        select.select([report] if report.fileno() < 1024 else [], [], [], 0.005)
        self._paid = {who: until for who, until in self._paid.items() if until > now - _BURST} | paid
        self.add(child, now + policy.exec_timeout)
        self._selector.register(report, selectors.EVENT_READ, lambda: self._reported(child, report))

    def _pay(self, who: str, rate: float, starts: float = 1.0) -> dict[str, float]:
        """Until when that many more starts are paid at that rate, by who pays."""
        return {who: max(self._paid.get(who, 0.0), time.monotonic() - _BURST) + starts / max(rate, 1.1 / _BURST)}

    def _reported(self, child: Child, report: socket.socket) -> None:
        """The name of the stage that failed and the reason; or the end of the connection: the program runs."""
        child.failure = child.failure or report.recv(4096).decode(errors="replace")
        self._selector.unregister(report)
        child.report = None
        if not child.failure:
            if child.status is None:
                del self.due[child]
            self._tell(wire.Spawned(child.request.id, child.pid))
