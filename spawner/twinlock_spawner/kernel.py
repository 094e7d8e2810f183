"""What the kernel is asked for in several lines, and what Python lacks: clone3(2), keyctl(2), capset(2), a prctl(2)."""

import contextlib
import ctypes
import os
import signal
import struct
from collections.abc import Iterator

_CLONE3 = 435
"""The number of clone3(2), on every machine."""

_KEYCTL = {"x86_64": 250, "ppc64le": 271, "s390x": 280}.get(os.uname().machine, 219)
"""The number of keyctl(2): 219 where system calls have the numbers of all newer machines, aarch64 and riscv64 too."""

_CLONE_INTO_CGROUP = 1 << 33
_KEYCTL_JOIN_SESSION_KEYRING = 1
_PR_CAPBSET_DROP = 24
_MOST_CAPABILITIES = 64
_CAPSET_HEADER = struct.pack("Ii", 0x20080522, 0)
"""For this process, in the form of version 3."""

# PyDLL keeps the interpreter's lock, which a new process has to have as well.
_libc = ctypes.PyDLL(None, use_errno=True)


class _CloneArguments(ctypes.Structure):
    """``struct clone_args`` of clone3(2)."""

    _fields_ = [
        (name, ctypes.c_uint64)
        for name in (
            "flags",
            "pidfd",
            "child_tid",
            "parent_tid",
            "exit_signal",
            "stack",
            "stack_size",
            "tls",
            "set_tid",
            "set_tid_size",
            "cgroup",
        )
    ]


def fork_into(cgroup: str) -> int:
    """Fork as `os.fork` does, the new process into the folder `cgroup` of cgroup v2. Raises `OSError`.

    To move a process there later, the kernel waits 6 to 23 ms for all processors. The calls around clone3(2) are those
    that `os.fork` makes: docs.python.org/3/c-api/sys.html.
    """
    folder = os.open(cgroup, os.O_PATH | os.O_CLOEXEC)
    arguments = _CloneArguments(flags=_CLONE_INTO_CGROUP, exit_signal=signal.SIGCHLD, cgroup=folder)
    ctypes.pythonapi.PyOS_BeforeFork()
    pid: int = _libc.syscall(_CLONE3, ctypes.byref(arguments), ctypes.sizeof(arguments))
    error = ctypes.get_errno()
    if pid == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
    else:
        ctypes.pythonapi.PyOS_AfterFork_Parent()
    os.close(folder)
    if pid < 0:
        raise OSError(error, os.strerror(error))
    return pid


def join_new_session_keyring() -> None:
    """Leave the service's keys behind: session-keyring(7). Raises `OSError`."""
    if _libc.syscall(_KEYCTL, _KEYCTL_JOIN_SESSION_KEYRING, None) < 0:
        raise OSError(f"there is no session keyring to be had, keyctl(2): {os.strerror(ctypes.get_errno())}")


def drop_bounding_set() -> None:
    """Drop each capability, up to the first number that the kernel doesn't know: PR_CAPBSET_DROP, prctl(2).

    python-prctl would leave those of a kernel that is newer than itself. What is left, and why, shows at the read-back.
    """
    for capability in range(_MOST_CAPABILITIES):
        if _libc.prctl(_PR_CAPBSET_DROP, capability) < 0:
            break


def drop_capabilities() -> None:
    """Empty the three sets of this process, in which each capability has a bit: capset(2). The read-back shows it."""
    _libc.capset(_CAPSET_HEADER, bytes(24))


def set_login_uid(uid: int) -> None:
    """Set the login uid, under which the kernel's audit knows what this process does: pam_loginuid(8).

    Raises `OSError` where another one was set before. A kernel without audit has no such file.
    """
    with contextlib.suppress(FileNotFoundError):
        file = os.open("/proc/self/loginuid", os.O_RDWR | os.O_CLOEXEC)
        if int(os.pread(file, 16, 0)) != uid:
            os.pwrite(file, str(uid).encode(), 0)
        os.close(file)


def raise_priority() -> None:
    """Come before all processes that users run: nice(2), the least value. Raises `OSError` without CAP_SYS_NICE."""
    os.setpriority(os.PRIO_PROCESS, 0, -20)


def lower_priority() -> None:
    """Come before nobody."""
    own = os.getpriority(os.PRIO_PROCESS, 0)
    os.setpriority(os.PRIO_PROCESS, 0, max(0, own))


def raise_priority_of_session() -> None:
    """Raise it for the whole session, which the kernel may schedule as one: sched(7), autogroups. Raises `OSError`."""
    with open("/proc/self/autogroup", "r+b", buffering=0) as file:
        file.write(b"-20")


def reap() -> Iterator[tuple[int, int]]:
    """Collect the children that have ended: pid and wait status, waitpid(2). Raises `ChildProcessError` without any."""
    while True:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        yield pid, status
