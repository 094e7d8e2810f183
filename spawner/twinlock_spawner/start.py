"""One start, as its stages see it: what was asked for, and what they have found out so far."""

import os
import pwd
import signal
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from twinlock_wire import wire

from twinlock_spawner.audit import Audit
from twinlock_spawner.policy import Policy

_HIGHEST = 0x7FFFFFFF
"""Above every file descriptor."""


class Failure(NamedTuple):
    """Why there is no endpoint: the stage, which a program may look at, and the reason, for people."""

    stage: str
    reason: str


@dataclass
class Start:
    """What the stages work on, in the process that becomes the endpoint."""

    policy: Policy
    audit: Audit
    request: wire.Spawn

    stdin: int
    """The descriptor that becomes the program's stdin."""

    output: int
    """The one that becomes its stdout and stderr."""

    cgroup: str
    """The path of the endpoint's own cgroup; empty where the policy has none."""

    report: int = -1
    """Where a failure is written to. It is closed by exec, which is how success shows."""

    parent: int = field(default_factory=os.getpid)
    """The process without which this one has to end."""

    privileged: bool = field(default_factory=lambda: os.geteuid() == 0)
    """Whether root changes to the user; else the spawner serves its own user alone."""

    stage: str = "fork"
    """The stage that it is at."""

    account: pwd.struct_passwd = field(init=False)
    groups: list[int] = field(default_factory=list)
    """The account, and all groups that its processes get."""

    environment: dict[str, str] = field(default_factory=dict)
    """What PAM's modules set for it."""

    def close_others(self) -> None:
        """Close what the stages don't need: the spawner's locks, listener and connection, and what modules opened."""
        signal.set_wakeup_fd(-1)  # Python would write to whatever gets that number
        kept = [2, self.audit.fd, self.report, self.stdin, self.output]
        for lower, upper in pairwise([*sorted(kept), _HIGHEST]):
            os.closerange(lower + 1, upper)
