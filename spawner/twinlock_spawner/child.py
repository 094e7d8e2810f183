"""One endpoint as the spawner knows it: a child of this process, and where it is in its life.

The process is the program itself where the endpoint has a cgroup, else the guard above it.
"""

import enum
import math
import socket
import time
from dataclasses import dataclass, field

from twinlock_wire import wire

from twinlock_spawner.start import Failure


class State(enum.Enum):
    """It only moves forward."""

    STARTING = "starting"
    """Forked; the program hasn't been executed yet."""

    RUNNING = "running"
    """The program runs."""

    CLEARING = "clearing"
    """Its process has ended, and was reaped; what it has left is being killed."""

    ENDED = "ended"
    """Nothing is left. It stays in the table until the broker has taken note."""


@dataclass(eq=False)
class Child:
    """An endpoint."""

    request: wire.Spawn

    cgroup: str
    """The path of its own cgroup; empty where it has none."""

    kill_signal: int
    """What ends it: SIGKILL, or what its guard takes for that."""

    state: State = State.STARTING

    pid: int = 0

    since: float = field(default_factory=time.monotonic)
    """When it was forked, as `time.monotonic` has it."""

    due: float = math.inf
    """When it is looked after next."""

    report: socket.socket | None = None
    """Where its stages report to, while it starts."""

    failure: Failure | None = None
    """Why it doesn't start."""

    signals: set[str] = field(default_factory=set)
    """Those that the broker has had sent to it. It may ask for more of them without end."""

    wait_status: int | None = None
    """waitpid(2)'s word on its end."""

    @property
    def has_started(self) -> bool:
        """Whether the broker has been told of it, or is just being told."""
        return self.state is not State.STARTING and self.failure is None

    def row(self) -> wire.Child:
        """The endpoint as the broker knows it."""
        ended = self.wait_status if self.state is State.ENDED else None
        return wire.Child(self.request.id, self.pid, self.request.user, self.request.name, ended)
