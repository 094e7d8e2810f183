"""The children together: limits, starts, ends, and what the broker is told of them."""

import os
import selectors
import signal
import time
from collections.abc import Callable

from twinlock_shared import wire

from twinlock_spawner import tree
from twinlock_spawner.audit import Audit
from twinlock_spawner.child import Plan
from twinlock_spawner.children import Child, State, fork
from twinlock_spawner.policy import Policy

_POLL = 0.02
"""Seconds between two looks at a tree that is being ended."""


class Refusal(Exception):
    """A request that isn't carried out: the stage and the reason."""

    def __init__(self, stage: str, reason: str) -> None:
        super().__init__(reason)
        self.stage = stage


class Table:
    """All children by the id that the broker knows them by. `tell` sends a reply to the broker, should there be one."""

    def __init__(
        self, policy: Policy, audit: Audit, selector: selectors.BaseSelector, tell: Callable[[wire.Reply], None]
    ) -> None:
        self._policy = policy
        self._audit = audit
        self._selector = selector
        self._tell = tell
        self._children: dict[str, Child] = {}
        self._privileged = os.geteuid() == 0
        self._stopping = False

    def empty(self) -> bool:
        """Whether nothing runs any more."""
        return not self._alive()

    def rows(self) -> list[wire.Child]:
        """What the broker may know: children that run, and ends that it hasn't taken note of."""
        return [child.row() for child in self._children.values() if child.report < 0 and child.failure is None]

    def patience(self) -> float | None:
        """Seconds until something is due without an event."""
        if any(child.state is State.ENDING for child in self._children.values()):
            return _POLL
        deadlines = [child.deadline for child in self._children.values() if child.deadline is not None]
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None

    def spawn(self, request: wire.Spawn, stdin: int, output: int) -> None:
        """Start a child; what becomes of it is told later. Raises `Refusal`."""
        self._check_limits(request)
        try:
            self._audit.require("spawn", id=request.id, user=request.user, name=request.name, program=request.program)
        except OSError as error:
            raise Refusal("audit", "the site's audit log can't be written") from error
        try:
            plan = Plan(
                policy=self._policy,
                user=request.user,
                name=request.name,
                argv=self._policy.programs[request.program],
                stdin=stdin,
                output=output,
                tree=self._new_tree(request.id),
                privileged=self._privileged,
            )
            child = fork(request, plan)
        except OSError as error:
            raise Refusal("fork", f"the host can't start another endpoint: {error.strerror}") from error
        self._children[child.id] = child
        self._selector.register(child.report, selectors.EVENT_READ, lambda: self._started(child))

    def signal(self, request: wire.Signal) -> None:
        """Ask a child to end, or end it. Raises `Refusal`."""
        child = self._children.get(request.id)
        if child is None or child.state is State.ENDED:
            raise Refusal("signal", "there is no such endpoint")
        self._audit.line("signal", id=child.id, signal=request.signal)
        if request.signal == "TERM":
            child.terminate(self._policy.stop_grace)
        else:
            child.signal(signal.SIGKILL)

    def forget(self, request: wire.Noted) -> None:
        """The broker knows of this end. Raises `Refusal`."""
        child = self._children.get(request.id)
        if child is None or child.state is not State.ENDED:
            raise Refusal("noted", "there is no such endpoint that ended")
        del self._children[request.id]

    def stop(self) -> None:
        """No more starts; ask all children to end, and see to it that they do."""
        self._stopping = True
        for child in self._children.values():
            child.terminate(self._policy.stop_grace)

    def advance(self) -> None:
        """Do what is due: reap, kill what outstayed its time, end what children left behind."""
        self._reap()
        for child in list(self._children.values()):
            if child.state is State.ENDING:
                self._end(child)
            elif child.deadline is not None and time.monotonic() >= child.deadline:
                child.expire()

    def _alive(self) -> list[Child]:
        return [child for child in self._children.values() if child.state is not State.ENDED]

    def _check_limits(self, request: wire.Spawn) -> None:
        alive, policy = self._alive(), self._policy
        if self._stopping:
            raise Refusal("stopping", "the spawner is stopping")
        if request.id in self._children:
            raise Refusal("duplicate", "this endpoint is in the table already")
        if request.program not in policy.programs:
            raise Refusal("policy", f"the policy has no program {request.program}")
        if len(alive) >= policy.max_children:
            raise Refusal("limit", f"{policy.max_children} endpoints run on this host, which is the most")
        if sum(child.user == request.user for child in alive) >= policy.max_children_per_user:
            raise Refusal("limit", f"account {request.user} has {policy.max_children_per_user}, which is the most")

    def _new_tree(self, child: str) -> tree.Tree:
        if self._policy.cgroup and self._privileged:
            return tree.CgroupTree(self._policy.cgroup, child)
        return tree.SessionTree()

    def _started(self, child: Child) -> None:
        self._selector.unregister(child.report)
        if child.read_report():
            self._audit.line("spawned", id=child.id, user=child.user, uid=child.uid, pid=child.pid)
            self._tell(wire.Spawned(child.id, child.pid))

    def _reap(self) -> None:
        """Take note of every process that ended; one that isn't in the table is an orphan of some endpoint's."""
        by_pid = {child.pid: child for child in self._children.values() if child.status is None}
        while pid := _zombie():
            child = by_pid.get(pid)
            if child is not None and child.report >= 0:
                self._started(child)
            _, status = os.waitpid(pid, 0)
            if child is not None:
                child.ended(status)

    def _end(self, child: Child) -> None:
        """Kill what the child left behind, look again until nothing is left, then say so."""
        alone = not any(other.uid == child.uid and other is not child for other in self._alive())
        if not child.tree.ended(child.pid, child.uid, alone):
            return
        if child.failure is None:
            child.state = State.ENDED
            self._audit.line("exited", id=child.id, user=child.user, pid=child.pid, status=child.status)
            self._tell(wire.Exited(child.id, child.pid, child.status or 0))
        else:
            del self._children[child.id]
            stage, _, reason = child.failure.partition("\n")
            self._audit.line("failed", id=child.id, user=child.user, stage=stage, reason=reason)
            self._tell(wire.Refused(child.id, stage, reason[: wire.MAX_TEXT]))


def _zombie() -> int:
    """A process that ended and waits to be reaped; 0 where there is none."""
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return 0
    return found.si_pid if found else 0
