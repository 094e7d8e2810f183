"""The session keyring of a login, session-keyring(7), which processes inherit whatever their account is."""

import ctypes
import errno
import os

from twinlock_broker.errors import Fatal

KEYCTL = {"x86_64": 250, "ppc64le": 271, "s390x": 280}.get(os.uname().machine, 219)
"""The number of keyctl(2): 219 where system calls have the numbers of all newer machines, aarch64 and riscv64 too."""

_JOIN_SESSION_KEYRING = 1
_NONE_THERE = (errno.ENOSYS, errno.EPERM)
"""The kernel has no keyrings, or a container forbids them to all its processes."""


def leave() -> None:
    """Begin a session keyring without any keys, so that processes that are started don't get ours: keyctl(2).

    Raise `Fatal` (71) if the kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(KEYCTL, _JOIN_SESSION_KEYRING, None) < 0 and ctypes.get_errno() not in _NONE_THERE:
        reason = os.strerror(ctypes.get_errno())
        raise Fatal(os.EX_OSERR, f"keyctl(2) gives no new session keyring: {reason}; see /proc/key-users")
