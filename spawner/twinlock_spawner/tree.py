"""How all that an endpoint has started is killed: by its cgroup, or by going down from parent to child.

A pid may come to mean another process at any moment: a parent that ignores SIGCHLD frees its children's without a wait.
So a pidfd is opened, then it is looked again what the pid means, and what gets the signal is the pidfd's process.
"""

import contextlib
import os
import signal
from collections import defaultdict
from collections.abc import Callable, Container

Choice = Callable[[int], bool]


def kill_cgroup(cgroup: str) -> bool:
    """Kill all in a cgroup and in those below it, and remove them; return whether that is done.

    Call again where some still die. cgroup.kill reaches processes that are just being forked as well (Linux 5.14).
    """
    with contextlib.suppress(OSError):  # it is gone already, or busy until they have died
        write(f"{cgroup}/cgroup.kill", "1")
        for folder, _, _ in os.walk(cgroup, topdown=False):
            _kill_members(folder)
            os.rmdir(folder)
    return not os.path.exists(cgroup)


def _kill_members(cgroup: str) -> None:
    """Kill those whose first thread has ended, which cgroup.kill spares."""
    end_of_path = f"/{os.path.basename(cgroup)}\n".encode()

    def is_inside(pid: int) -> bool:
        return _cgroup(str(pid)).endswith(end_of_path)

    for pid in read(f"{cgroup}/cgroup.procs").split():
        _kill(int(pid), is_inside)


def kill_descendants(chosen: Choice = bool) -> bool:
    """Kill those of this process's descendants that are `chosen`, from parent to child; return whether there were none.

    All processes are read again until no more have come, and nobody is reaped meanwhile: a fork bomb can't grow.
    """
    family = {os.getpid()}

    def is_ours(pid: int) -> bool:
        return _parent(pid) in family and chosen(pid)

    while True:
        before = len(family)
        children = _children_by_parent()
        parents = [os.getpid()]
        for parent in parents:  # which grows meanwhile
            for child in children[parent]:
                if child in family or _kill(child, is_ours):
                    family.add(child)
                    parents.append(child)
        if len(family) == before:
            return before == 1


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

    own_children = read("/proc/thread-self/children").split()
    if not any(is_orphan(int(pid)) for pid in own_children):  # most often, and the host may have many processes
        return True
    return kill_descendants(is_orphan)


def _kill(pid: int, chosen: Choice) -> bool:
    """Kill the process if it is chosen; return whether it was. A pid of 0, another namespace's, is nobody's here."""
    with contextlib.suppress(OSError):  # it has ended meanwhile
        pidfd = os.pidfd_open(pid)
        try:
            if chosen(pid):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                return True
        finally:
            os.close(pidfd)
    return False


def _children_by_parent() -> dict[int, list[int]]:
    """Return the children of every process that has some."""
    children = defaultdict[int, list[int]](list)
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):  # it has ended meanwhile
                children[_parent(int(name))].append(int(name))
    return children


def _parent(pid: int) -> int:
    """Return a process's parent: proc(5). Its name may have blanks and parentheses."""
    return int(read(f"/proc/{pid}/stat").rpartition(b")")[2].split()[1])


def _cgroup(process: str) -> bytes:
    """Return the path of a process's cgroup v2. In others, one whose first thread has ended is shown elsewhere."""
    return read(f"/proc/{process}/cgroup").partition(b"0::")[2]


def _uid(pid: int) -> int:
    """Return the real uid of a process."""
    return int(read(f"/proc/{pid}/status").partition(b"\nUid:")[2].split()[0])


def read(path: str) -> bytes:
    """Return what is in a file of the kernel's."""
    with open(path, "rb", buffering=0) as file:
        return file.readall()


def write(path: str, text: str) -> None:
    """Write to a file of the kernel's. Raises `OSError` that has both.

    It may be closed to readers. What is written to memory.max can take long to come about, which isn't waited for
    (O_NONBLOCK, Linux 6.16).
    """
    file = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        os.write(file, text.encode())
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror}, on writing {text!r}", path) from error
    finally:
        os.close(file)
