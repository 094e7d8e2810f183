"""What the kernel shows of a process, and waiting for it to show something."""

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

PATIENCE = float(os.environ.get("TWINLOCK_PATIENCE", "60"))
"""Seconds that something is awaited. It comes, unless a check was taken away on purpose; those tests have less."""


def descriptors(pid: int) -> dict[int, str]:
    """The open file descriptors of a process and what each stands for, as proc_pid_fd(5) names it."""
    found = {}
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            found[int(path.name)] = os.readlink(path)
    return found


def status(pid: int) -> dict[str, str]:
    """The lines of proc_pid_status(5)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, value in (line.split(":", 1) for line in lines)}


def children(pid: int) -> list[int]:
    """The processes whose parent it is, zombies included."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def resident(pid: int) -> int:
    """The kB of memory that a process has in use."""
    return int(status(pid)["VmRSS"].split()[0])


def until(condition: Callable[[], bool], seconds: float = PATIENCE) -> bool:
    """Whether the condition comes true within so many seconds."""
    end = time.monotonic() + seconds
    while not (true := condition()) and time.monotonic() < end:
        time.sleep(0.01)
    return true
