"""What the kernel tells everybody about a process (proc_pid_stat(5))."""

import os
import time
from pathlib import Path

_PARENT, _STARTED = 4, 22
"""Fields of the file, by the numbers that the manual page gives them."""


def parent(pid: int) -> int:
    """The parent of a process; 0 where it can't be known."""
    return _field(pid, _PARENT) or 0


def started(pid: int) -> float | None:
    """When a process was started, by time.monotonic(); None where it can't be known."""
    ticks = _field(pid, _STARTED)
    if ticks is None:
        return None
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return time.monotonic() - max(0.0, age)


def _field(pid: int, number: int) -> int | None:
    """The command's name, which is the second field, may hold spaces and brackets."""
    try:
        _, _, rest = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")
        return int(rest.split()[number - 3])
    except (OSError, ValueError, IndexError):
        return None
