"""The table of endpoints, from their start until the broker has taken note of their end: limits, states, signals."""

import contextlib
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterator

from twinlock_wire import wire

from twinlock_spawner import cgroups, guard, kernel, stages, tree
from twinlock_spawner.audit import Audit
from twinlock_spawner.child import Child, State
from twinlock_spawner.policy import Policy, is_system_uid
from twinlock_spawner.rates import EVERYBODY, Rates
from twinlock_spawner.start import Failure, Start, explain, read_failure

_EARLY = 5.0
"""A program that ends within so many seconds costs its account as many starts more."""

_KILL_AGAIN = 1.0
"""Seconds after which an endpoint is killed again that should have ended by then."""

_PAUSE = 0.05
"""Seconds until it is looked again whether all that an endpoint has left is gone."""

Tell = Callable[[wire.Reply], None]


class Children:
    """The endpoints by their id. What becomes of them is told by `tell`."""

    def __init__(self, policy: Policy, audit: Audit, selector: selectors.BaseSelector, tell: Tell) -> None:
        self._policy = policy
        self._audit = audit
        self._selector = selector
        self._tell = tell
        self._by_id: dict[str, Child] = {}
        self._rates = Rates()

    def __iter__(self) -> Iterator[Child]:
        return iter(self._by_id.values())

    def rows(self) -> list[wire.Child]:
        """Return the endpoints that have started, as the broker knows them."""
        return [child.row() for child in self if child.state is not State.STARTING]

    def are_settled(self) -> bool:
        """Return whether none is just starting."""
        return all(child.state is not State.STARTING or child.is_stuck for child in self)

    def have_ended(self) -> bool:
        """Return whether nothing runs any more."""
        return all(child.state is State.ENDED or child.is_stuck for child in self)

    def next_due(self) -> float:
        """Return when one has to be looked after, as `time.monotonic` has it."""
        return min((child.due for child in self), default=float("inf"))

    # What the broker asks for.

    def start(self, request: wire.Spawn, files: list[int]) -> None:
        """Start an endpoint, whose stdin and output are `files`, or say why not. What isn't recorded isn't started."""
        failure = self._refusal(request)
        if failure is None and not self._audit.record("spawn", **request._asdict()):
            failure = Failure("audit", "the audit log can't be written")
        if failure is not None:
            self.refuse(request, failure)
            return
        self._rates.pay(EVERYBODY, self._policy.start_rate)
        self._rates.pay(request.user, self._policy.start_rate_per_user)
        failure = self._fork(request, files)
        if failure is not None:
            self._report(request, wire.Refused(request.id, *failure))

    def signal(self, request: wire.Signal) -> None:
        """Send TERM or KILL to an endpoint. Its end will show what came of it."""
        child = self._by_id.get(request.id)
        if child is None:
            self.refuse(request, Failure("signal", "there is no such endpoint"))
            return
        record = self._audit.record_repeatable if request.signal in child.signals else self._audit.record
        record("signal", **request._asdict())
        child.signals.add(request.signal)
        if request.signal == "TERM":
            self._terminate(child)
        else:
            self._kill(child)

    def note(self, request: wire.Noted) -> None:
        """Forget an endpoint that has ended."""
        self._audit.record_repeatable("noted", id=request.id)
        child = self._by_id.get(request.id)
        if child is not None and child.state is State.ENDED:
            del self._by_id[request.id]

    def refuse(self, request: wire.Spawn | wire.Signal, failure: Failure) -> None:
        """Say why nothing is done about a request."""
        self._audit.record_repeatable("refused", **request._asdict(), **failure._asdict())
        self._tell(wire.Refused(request.id, *failure))

    def _report(self, request: wire.Spawn, reply: wire.Spawned | wire.Refused | wire.Exited) -> None:
        """Record and tell what has become of a start that was recorded."""
        self._audit.record(type(reply).__name__.lower(), **reply._asdict(), command=request.command)
        self._tell(reply)

    def _refusal(self, request: wire.Spawn) -> Failure | None:
        """Say which limit is in the way of a start."""
        policy = self._policy
        user = request.user
        own = [child for child in self if child.request.user == user]
        if request.id in self._by_id:
            return Failure("duplicate", "it is in the table already")
        if request.program not in policy.programs:
            return Failure("policy", f"the policy has no program {request.program}")
        if len(self._by_id) >= policy.max_children:
            return Failure("limit", "the host has as many as it may have")
        if len(own) >= policy.max_children_per_user:
            return Failure("limit", f"account {user} has as many as it may have")
        everybody = self._rates.wait(EVERYBODY, policy.start_rate)
        wait = max(everybody, self._rates.wait(user, policy.start_rate_per_user))
        if wait > 0:
            return Failure("rate", f"too many starts; again in {int(wait) + 1} s")
        return None

    def _fork(self, request: wire.Spawn, files: list[int]) -> Failure | None:
        """Make the process that becomes the endpoint, or say why there is none."""
        policy = self._policy
        cgroup = cgroups.path(policy, request.user, request.id)
        if not cgroups.clear(cgroup):
            return Failure("fork", "what it left, in a file system that doesn't answer, can't be killed yet")
        guarded = guard.is_needed(policy)
        stdin, output = files
        start = Start(policy, self._audit, request, stdin, output, cgroup)
        child = Child(request, cgroup, guard.KILL if guarded else signal.SIGKILL)
        try:
            cgroups.make(policy, cgroup)
            child.report, report = socket.socketpair()
            with report:
                child.pid = os.fork() if guarded else kernel.fork_into(cgroup)
                if child.pid == 0:
                    stages.run(start, report.fileno())
        except OSError as error:
            cgroups.clear(cgroup)
            return explain(error)
        child.due = child.since + policy.exec_timeout
        self.add(child)  # first of all: it runs, so it has to be known
        self._selector.register(child.report, selectors.EVENT_READ, lambda: self._read_report(child))
        return None

    def add(self, child: Child) -> None:
        """Have a child that was forked, now or by an earlier self, in the table."""
        self._by_id[child.request.id] = child

    # Signals. They go to children that haven't been reaped: only when this process has done that can a pid come to mean
    # another one.

    def terminate_all(self) -> None:
        """Send TERM to every endpoint; after `stop_grace` seconds those that are left are killed."""
        for child in self:
            self._terminate(child)

    def _terminate(self, child: Child) -> None:
        """Send TERM, and see to it that KILL follows; a program that isn't executed yet needn't be."""
        if child.state is State.STARTING:
            self._kill(child)
        elif child.wait_status is None:
            child.due = min(child.due, time.monotonic() + self._policy.stop_grace)
            child.send(signal.SIGTERM)

    def _kill(self, child: Child) -> None:
        """Kill what is in its cgroup: who traces the endpoint hears of its end in our place, ptrace(2). And itself."""
        if child.wait_status is not None:
            return
        if child.state is State.STARTING and child.failure is None:
            child.failure = Failure("timeout", "the start took too long, or was called off")
        child.due = time.monotonic() + _KILL_AGAIN
        if child.cgroup:
            tree.kill_cgroup(child.cgroup)
        child.send(child.kill_signal)

    # What happens.

    def _read_report(self, child: Child) -> None:
        """Take what the stages have said: the failure, or nothing at all, and then the program runs."""
        if child.report is None:
            return
        said = b""
        with child.report as report:
            self._selector.unregister(report)
            child.report = None
            with contextlib.suppress(BlockingIOError):  # a program of a name service may keep the other end open
                said = report.recv(wire.MAX_DATAGRAM, socket.MSG_DONTWAIT)
        if said and child.failure is None:
            child.failure = read_failure(said)
        if child.failure is None:
            child.state = State.RUNNING
            child.due = float("inf")
            self._report(child.request, wire.Spawned(child.request.id, child.pid))

    def reap(self) -> None:
        """Note who has ended. Others than the endpoints are orphans that came to this process."""
        running = {child.pid: child for child in self if child.wait_status is None}
        with contextlib.suppress(ChildProcessError):  # there is no child
            for pid, status in kernel.reap():
                child = running.pop(pid, None)
                if child is not None:
                    try:
                        self._read_report(child)  # all of it is there
                    finally:
                        child.wait_status = status
                        child.due = 0.0

    def look_after(self) -> None:
        """Do what is due: kill what outstayed its time, end what is left, and tell when nothing is left."""
        now = time.monotonic()
        for child in [child for child in self if child.due <= now]:
            child.due = now + _KILL_AGAIN  # should something unforeseen happen, all others come first
            child.killed = min(child.killed, now)
            if child.wait_status is None:
                self._kill(child)
            elif not self._clear(child) and not child.is_stuck:
                child.due = time.monotonic() + _PAUSE
            else:
                self._end(child)

    def _clear(self, child: Child) -> bool:
        """Kill what a child has left that was reaped; return whether nothing is left."""
        if child.cgroup:
            return cgroups.clear(child.cgroup)
        sessions = {os.getsid(0), *(other.pid for other in self)}
        return tree.kill_orphans(sessions, lambda uid: not is_system_uid(uid, self._policy))

    def _end(self, child: Child) -> None:
        """Tell the end of a child of which nothing is left, or what can't be killed."""
        if child.failure is not None:
            del self._by_id[child.request.id]
            self._report(child.request, wire.Refused(child.request.id, *child.failure))
            return
        child.state = State.ENDED
        child.due = float("inf")
        if time.monotonic() - child.since < _EARLY:
            self._rates.pay(child.request.user, self._policy.start_rate_per_user, _EARLY)
        assert child.wait_status is not None
        self._report(child.request, wire.Exited(child.request.id, child.pid, child.wait_status))
