"""One start, as its stages see it: what was asked for, and what they have found out so far."""

import errno
import os
import pwd
import signal
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from twinlock_wire import wire

from twinlock_spawner.audit import Audit
from twinlock_spawner.policy import Policy


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
        for lower, upper in pairwise([*sorted(kept), 0x7FFFFFFF]):  # the last is above all that there can be
            os.closerange(lower + 1, upper)


def explain(error: OSError) -> Failure:
    """Say why there is no process: fork(2), clone3(2). An error with a file name is about the cgroup."""
    if error.filename is not None:
        return Failure("cgroup", str(error))
    if error.errno == errno.EAGAIN:
        return Failure("fork", "the host, the spawner's unit or a cgroup has as many processes as it may have")
    return Failure("fork", f"the host can't start another: {error}")


def read_failure(said: bytes) -> Failure:
    """Return stage and reason. They are checked, since a module of the site may have written something there."""
    try:
        refused: wire.Refused = wire.decode(said, {"refused": wire.Refused})
    except wire.WireError as error:
        return Failure("fork", f"the new process said something that is no report: {error}")
    return Failure(refused.stage, refused.reason)
