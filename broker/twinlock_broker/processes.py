"""What the broker asks the kernel about a process."""

import os
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
