"""What the broker asks the kernel about a process."""

import os
import select
import time

from twinlock_common import proc_stat


def parent(pid: int) -> int:
    """Return the parent of a process; 0 if it can't be known."""
    return int(proc_stat.field(pid, proc_stat.PARENT) or 0)


def started(pid: int) -> float | None:
    """Return when a process was started, by time.monotonic(); None if it can't be known."""
    ticks = proc_stat.field(pid, proc_stat.STARTED)
    if ticks is None:
        return None
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - int(ticks) / os.sysconf("SC_CLK_TCK")
    return time.monotonic() - max(0.0, age)


def has_ended(child: int, deadline: float) -> bool:
    """Return whether a child of this process ends before `deadline` (time.monotonic()), waiting for that.

    It isn't reaped: its number stays its own, also as that of its process group.
    """
    pidfd = os.pidfd_open(child)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        return bool(poll.poll(1000 * max(0.0, deadline - time.monotonic())))
    finally:
        os.close(pidfd)
