"""How all that an endpoint has started is killed: by its cgroup, or by going down from parent to child."""

import contextlib
import os
import signal
from collections.abc import Callable, Container

Choice = Callable[[int], bool]


def kill_cgroup(cgroup: str) -> bool:
    """Kill all in a cgroup and remove it; return whether that is done. Call again where some still die.

    cgroup.kill reaches processes that are just being forked as well (Linux 5.14).
    """
    with contextlib.suppress(OSError):  # it is gone already, or busy until they have died
        _write(f"{cgroup}/cgroup.kill", b"1")
        for pid in _read(f"{cgroup}/cgroup.procs").split():
            os.kill(int(pid), signal.SIGKILL)  # cgroup.kill spares those whose first thread has ended
        os.rmdir(cgroup)
    return not os.path.exists(cgroup)


def kill_descendants(chosen: Choice = bool) -> bool:
    """Kill those of this process's descendants that are `chosen`, from parent to child; return whether there were none.

    This process's children are read again until no more have come, and nobody is reaped meanwhile: a fork bomb can't
    grow. A pid that is signalled is still its process's, since who would reap that is this process, or was just killed.
    """
    killed: set[int] = set()
    while True:
        before = len(killed)
        parents = [os.getpid()]
        for parent in parents:  # which grows meanwhile
            new = [child for child in _children(parent) - killed if _kill(child, chosen)]
            killed.update(new)
            parents.extend(new)
        if len(killed) == before:
            return not killed


def kill_orphans(sessions: Container[int], is_users: Choice) -> bool:
    """In the spawner: kill what a guard that was killed has left; return whether there was nothing.

    That is each user's process that has come to the spawner, other than a child of its own: those are in its session
    (the keeper), or lead one of `sessions` (guards), or have another cgroup, and what they leave has that too.

    Args:
        sessions: the ids of the spawner's own session and of its children's.
        is_users: whether a process with that uid may be a user's.
    """
    own_cgroup = _cgroup("self")

    def is_orphan(pid: int) -> bool:
        return os.getsid(pid) not in sessions and _cgroup(str(pid)) == own_cgroup and is_users(_uid(pid))

    return kill_descendants(is_orphan)


def _kill(pid: int, chosen: Choice) -> bool:
    """Kill the process if it is chosen; return whether it was."""
    with contextlib.suppress(OSError):  # it has ended meanwhile
        if chosen(pid):
            os.kill(pid, signal.SIGKILL)
            return True
    return False


def _children(parent: int) -> set[int]:
    """The children of all threads of a process."""
    found: set[int] = set()
    with contextlib.suppress(OSError):  # it has ended meanwhile
        for thread in os.listdir(f"/proc/{parent}/task"):
            found.update(int(pid) for pid in _read(f"/proc/{parent}/task/{thread}/children").split())
    return found


def _cgroup(process: str) -> bytes:
    """The path of a process's cgroup of version 2. In others, one whose first thread has ended is shown elsewhere."""
    return _read(f"/proc/{process}/cgroup").partition(b"0::")[2]


def _uid(pid: int) -> int:
    """The real uid of a process."""
    return int(_read(f"/proc/{pid}/status").partition(b"\nUid:")[2].split()[0])


def _read(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.readall()


def _write(path: str, data: bytes) -> None:
    """Write to a file that is there, and that only root may read."""
    file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(file, data)
    finally:
        os.close(file)
