"""One endpoint as the spawner knows it: a child of this process, and where it is in its life.

The process is the program itself where the endpoint has a cgroup, else the guard above it.
"""

import contextlib
import enum
import math
import os
import socket
import time
from dataclasses import dataclass, field

from twinlock_wire import wire

from twinlock_spawner.start import Failure

_GIVE_UP = 10.0
"""Seconds after which one that was killed and hasn't ended is taken for one that can't be."""


class State(enum.Enum):
    """It only moves forward."""

    STARTING = "starting"
    """Forked; the program hasn't been executed yet, and won't be where there is a failure."""

    RUNNING = "running"
    """The program runs, or it has ended (then there is a wait status), and what it has left is being killed."""

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

    killed: float = math.inf
    """Since when it, or what it has left, is being killed, as `time.monotonic` has it."""

    signals: set[str] = field(default_factory=set)
    """Those that the broker has had sent to it. It may ask for more of them without end."""

    wait_status: int | None = None
    """waitpid(2)'s word on its end."""

    @property
    def is_stuck(self) -> bool:
        """Whether something of it was killed and can't end, since a file system that doesn't answer keeps it.

        Nobody waits for that: users can make such file systems (FUSE), and it does nothing any more.
        """
        return time.monotonic() > self.killed + _GIVE_UP

    def row(self) -> wire.Child:
        """Return the endpoint as the broker knows it."""
        ended = self.wait_status if self.state is State.ENDED else None
        return wire.Child(self.request.id, self.pid, self.request.user, self.request.name, ended)

    def send(self, number: int) -> None:
        """Send it a signal; it hasn't been reaped. Where that fails, it is killed when it is due."""
        with contextlib.suppress(OSError):
            os.kill(self.pid, number)
