"""One child, from its fork until the broker took note of its end.

event           STARTING             RUNNING             ENDING              ENDED
report: end     RUNNING, spawned     -                   -                   -
report: text    the text is kept     -                   -                   -
deadline        kill                 kill                -                   -
process ended   ENDING               ENDING              -                   -
tree is empty   -                    -                   ENDED, exited       -
                -                    -                   or gone, refused    -
noted           -                    -                   -                   gone
"""

import enum
import os
import signal
import time
from dataclasses import dataclass

from twinlock_shared import wire

from twinlock_spawner.child import Plan, run
from twinlock_spawner.tree import Tree


class State(enum.Enum):
    """Where a child is on its way."""

    STARTING = enum.auto()
    RUNNING = enum.auto()
    ENDING = enum.auto()
    ENDED = enum.auto()


@dataclass(slots=True)
class Child:
    """One row of the table.

    `deadline` is the time of time.monotonic() at which it is killed; `failure` the stage and the reason why it didn't
    start, a line each; `status` its wait status once it was reaped.
    """

    id: str
    user: str
    name: str
    tree: Tree
    pid: int
    pidfd: int
    report: int
    deadline: float | None
    uid: int = -1
    state: State = State.STARTING
    status: int | None = None
    failure: str | None = None

    def row(self) -> wire.Child:
        """This child as the wire shows it: running until nothing of its tree is left."""
        status = self.status if self.state is State.ENDED else None
        return wire.Child(self.id, self.pid, self.user, self.name, status)

    def signal(self, number: signal.Signals) -> None:
        """Signal the process itself; by its pidfd, which never comes to mean another process (pidfd_open(2))."""
        if self.status is None:
            signal.pidfd_send_signal(self.pidfd, number)

    def terminate(self, grace: float) -> None:
        """Ask it to end within `grace` seconds."""
        if self.status is None:
            self.signal(signal.SIGTERM)
            self.deadline = time.monotonic() + grace

    def expire(self) -> None:
        """Its time is up."""
        if self.state is State.STARTING:
            self.failure = "timeout\nthe start took too long"
        self.deadline = None
        self.signal(signal.SIGKILL)

    def read_report(self) -> bool:
        """Learn what became of the start. True: the program was executed."""
        text = os.read(self.report, 4096).decode(errors="replace")
        os.close(self.report)
        self.report = -1
        self.failure = self.failure or text or None
        if self.failure is None:
            self.state, self.deadline = State.RUNNING, None
            self.uid = os.stat(f"/proc/{self.pid}").st_uid  # there, if as a zombie, until we reap it
        return self.failure is None

    def ended(self, status: int) -> None:
        """The process was reaped; what it started may still be there."""
        self.state, self.status, self.deadline = State.ENDING, status, None
        os.close(self.pidfd)


def fork(request: wire.Spawn, plan: Plan) -> Child:
    """Fork the child that carries out `plan`. Raises `OSError`."""
    report, plan.report = os.pipe2(os.O_CLOEXEC)
    try:
        pid = os.fork()
        if pid == 0:
            run(plan)
        pidfd = _watch(pid)
    except OSError:
        os.close(report)
        raise
    finally:
        os.close(plan.report)
    deadline = time.monotonic() + plan.policy.exec_timeout
    return Child(request.id, request.user, request.name, plan.tree, pid, pidfd, report, deadline)


def _watch(pid: int) -> int:
    """A pidfd of a child just forked. One that can't be watched is ended; it is reaped like an orphan."""
    try:
        return os.pidfd_open(pid)
    except OSError:
        os.kill(pid, signal.SIGKILL)
        raise
