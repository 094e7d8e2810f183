"""What keeps a second spawner away: a lock beside the socket, and one on the cgroup's own file.

The locks are those of flock(2). Such a lock belongs to an open file, not to a process. It survives exec, so a spawner
that starts over in place keeps it. A fork shares it, so the keeper holds it until it has killed what its spawner left.
It ends when the last process has closed the file. A lock of fcntl(2) isn't shared by a fork.

There are two locks, since two policies may name different sockets and one cgroup. Only root can open either file, so
nobody else can take a lock and keep the spawner from starting. (In rootless operation root is the spawner's own user.)
"""

import contextlib
import errno
import fcntl
import os
import select
import socket
import stat
import time
from collections.abc import Callable

from twinlock_spawner.policy import PolicyError

PATIENCE = 10.0
"""Seconds to wait for a lock. A keeper needs about one; systemd gives up after five starts within ten seconds."""

_PAUSE = 0.05
"""Seconds between two attempts to take a lock."""


class InUse(Exception):
    """Another process has what this spawner needs; the text says what, who, and what to do."""


def take_locks(socket_path: str, cgroup: str, seconds: float) -> None:
    """Lock `socket_path` and, unless it is empty, `cgroup`, for this process and its keeper.

    What this process holds already stays as it is. The files are never closed.

    Raises:
        InUse: another process has held a lock for `seconds`.
        PolicyError: a lock file isn't root's alone, or `cgroup` isn't a cgroup.
    """
    deadline = time.monotonic() + seconds
    _take(f"{socket_path}.lock", _open_lock_file, deadline)
    if cgroup:
        # Without root, cgroup.kill of a delegated folder is still root's (systemd.resource-control(5), Delegate=).
        name = "cgroup.kill" if os.geteuid() == 0 else "cgroup.procs"
        try:
            os.makedirs(cgroup, exist_ok=True)
            _take(f"{cgroup}/{name}", _open_cgroup_file, deadline)
        except OSError as error:
            raise PolicyError(f"cgroup: {error}; it has to be a folder of cgroup v2 (Linux 5.14)") from error


def _take(path: str, open_file: Callable[[str], int], deadline: float) -> None:
    """Hold the lock of the file at `path`. Raises `InUse` if another process still has it at `deadline`."""
    while True:
        file = _find_open(path)
        if file is None:
            file = open_file(path)
        _wait_for_lock(file, path, deadline)
        if _is_at(file, path):
            break
        os.close(file)  # somebody removed it meanwhile; a lock on it would keep nobody away
    os.set_inheritable(file, True)


def _find_open(path: str) -> int | None:
    """Return this process's open file that is the one at `path`: an earlier self has left it, with its lock."""
    for name in os.listdir("/proc/self/fd"):
        if _is_at(int(name), path):
            return int(name)
    return None


def _is_at(file: int, path: str) -> bool:
    """Return whether the open `file` is the one at `path`. Links aren't followed."""
    try:
        return os.path.samestat(os.fstat(file), os.lstat(path))
    except OSError:  # there is none at the path, or the number isn't in use any more
        return False


def _open_lock_file(path: str) -> int:
    """Open or make the lock file at `path`. Raises `PolicyError` if others could open it as well."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise PolicyError(f"{path} can't be opened: {error.strerror}; if it is a link, remove it") from error
    status = os.fstat(file)
    if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
        raise PolicyError(f"{path} is not the spawner's alone: find out who made it, then remove it")
    return file


def _open_cgroup_file(path: str) -> int:
    """Open a file of the kernel's in a cgroup; nothing is ever written to it."""
    return os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)


def _wait_for_lock(file: int, path: str, deadline: float) -> None:
    """Lock `file`. Raises `InUse` if another process still has the lock at `deadline`."""
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise InUse(
                    f"{path} is locked by {_name_holder(file)}: another spawner runs, or its keeper still kills what it"
                    " started; stop that spawner, or give this one a policy with a socket and a cgroup of its own"
                ) from None
            select.select([], [], [], _PAUSE)
        else:
            return


def _name_holder(file: int) -> str:
    """Say who has locked `file`, as proc_locks(5) shows it: the process that took the lock, also if it has ended."""
    status = os.fstat(file)
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    with contextlib.suppress(OSError), open("/proc/locks") as table:
        for line in table:
            fields = line.split()
            if fields[1] == "FLOCK" and fields[5] == device:
                return f"process {fields[4]}"
    return "another process"


def remove_dead_socket(path: str) -> None:
    """Remove the socket at `path` if nobody listens on it. Raises `InUse` if somebody does, systemd for example."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
        probe.setblocking(False)  # to a listener whose queue is full, connect(2) would wait
        error = probe.connect_ex(path)
    if error == errno.ECONNREFUSED:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise PolicyError(f"socket: {path} is there and is no socket; name another path")
        os.unlink(path)
    elif error != errno.ENOENT:
        raise InUse(
            f"{path} is in use: systemd's socket unit or another program listens there; start the spawner by systemctl,"
            " or give this one a policy with a socket of its own"
        )
