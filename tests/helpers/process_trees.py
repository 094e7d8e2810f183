"""Processes as the kernel shows them: who is whose child, and what lives of an account."""

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

from proc_rig import PATIENCE


def eventually(condition: Callable[[], bool], seconds: float = PATIENCE) -> bool:
    """Whether the condition comes true within so many seconds."""
    end = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < end:
        time.sleep(0.02)
    return met


def children(pid: int) -> list[int]:
    """A process's children, the dead that haven't been waited for included."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def only_child(pid: int) -> int:
    """A process's only child. A spawner has another one for a moment while it closes what a broker has sent."""
    found: list[int] = []

    def alone() -> bool:
        found[:] = children(pid)
        return len(found) == 1

    assert eventually(alone)
    return found[0]


def keeper_of(spawner: int) -> int:
    """A spawner's keeper, when it has its name: it has left the spawner's group by then, and blocked all signals."""
    found: list[int] = []

    def is_there() -> bool:
        found[:] = [pid for pid in children(spawner) if b"keeper" in _command(pid)]
        return bool(found)

    assert eventually(is_there)
    return found[0]


def _command(pid: int) -> bytes:
    """A process's command line, or what it has set in its place; nothing where it has ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def owner(pid: int) -> int:
    """The real uid of a process."""
    return int(Path(f"/proc/{pid}/status").read_text().split("\nUid:")[1].split()[0])


def pending(pid: int) -> set[int]:
    """The signals that a process has been sent and doesn't take yet, since it blocks them; proc(5), `ShdPnd`."""
    mask = int(Path(f"/proc/{pid}/status").read_text().split("\nShdPnd:")[1].split()[0], 16)
    return {number for number in range(1, 65) if mask >> (number - 1) & 1}


def guards(pid: int) -> list[int]:
    """The guards of the endpoint that the spawner shows as `pid`: processes of root, the outer one first."""
    found = []
    while owner(pid) == 0:
        found.append(pid)
        pid = children(pid)[0]
    return found


def program(pid: int) -> int:
    """The process that executes the program of the endpoint that the spawner shows as `pid`.

    It is `pid` itself where there is no guard. Below one it is the only child that leads the session it was given.
    """
    found = guards(pid)
    return next(child for child in children(found[-1]) if os.getsid(child) == child) if found else pid


def processes(uid: int) -> set[int]:
    """The processes of an account, the dead that haven't been waited for included: RLIMIT_NPROC counts those too."""
    found = set()
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError, ValueError):
            if owner(int(name)) == uid:
                found.add(int(name))
    return found


def alive(uid: int) -> set[int]:
    """The processes of an account, zombies apart; one whose first thread has ended and another lives isn't a zombie."""
    return {pid for pid in processes(uid) if lives(pid)}


def lives(pid: int) -> bool:
    """Whether a thread of the process runs or may run again."""
    threads: list[str] = []
    with contextlib.suppress(OSError):
        threads = os.listdir(f"/proc/{pid}/task")
    return any(_runs(pid, thread) for thread in threads)


def _runs(pid: int, thread: str) -> bool:
    """Whether it hasn't ended. One may be held up in its end, the last step of which makes a zombie of it.

    By then it has left its cgroup, which can be removed: it shows as deleted, see cgroups(7).
    """
    task = Path(f"/proc/{pid}/task/{thread}")
    with contextlib.suppress(OSError):  # it has ended meanwhile, and the next one may not have
        ended = (task / "stat").read_text().rpartition(")")[2][1] in "ZX"
        return not ended and " (deleted)\n" not in (task / "cgroup").read_text()
    return False
