"""What the child does as the user, between the change of identity and the program. No line of it runs as root.

It begins with the kernel's word on who it is: a change of identity that failed half-way has given root away before.
"""

import contextlib
import io
import os
import signal

import prctl

import twinlock_spawner.child


def go(child: "twinlock_spawner.child.Child") -> None:
    """The last stages; what follows them is the program."""
    child.stage = "readback"
    if child.root:
        _read_back(child)
    elif child.account.pw_uid != os.geteuid():
        raise ValueError(f"account {child.account.pw_name} can't be used without root")
    if child.root:
        child.stage = "capabilities"
        _check_capabilities(child)
    child.stage = "parent"  # after the change of uid, which clears the setting; the parent may have ended before that
    prctl.set_pdeathsig(signal.SIGKILL)
    if os.getppid() != child.parent:
        raise ValueError("the spawner ended meanwhile")
    if child.policy.no_new_privs:
        child.stage = "no-new-privs"
        prctl.set_no_new_privs(1)
    child.stage = "directory"
    os.umask(0o077)
    os.chdir("/")
    with contextlib.suppress(OSError):  # it may be missing, or closed to anyone but the user
        os.chdir(child.account.pw_dir)
    child.stage = "stdio"
    _set_stdio(child)
    child.stage = "exec"
    _execute(child)


def _read_back(child: "twinlock_spawner.child.Child") -> None:
    uid, gid = child.account.pw_uid, child.account.pw_gid
    if (os.getresuid(), os.getresgid(), {*os.getgroups()}) != ((uid,) * 3, (gid,) * 3, {*child.groups}):
        raise ValueError("the kernel shows another uid, gid or groups")
    with contextlib.suppress(PermissionError):
        os.setuid(0)
        raise ValueError("root could be regained")


def _check_capabilities(child: "twinlock_spawner.child.Child") -> None:
    """The bounding set is emptied where no_new_privs holds; setuid programs elsewhere would lack what they need."""
    empty = (b"CapInh", b"CapPrm", b"CapEff", b"CapAmb", b"CapBnd")[: 4 + child.policy.no_new_privs]
    for line in io.FileIO("/proc/self/status").readall().splitlines():
        if line.startswith(empty) and int(line[8:], 16):
            raise ValueError(f"capabilities are left: {line.decode()}")


def _set_stdio(child: "twinlock_spawner.child.Child") -> None:
    for fd, source in enumerate((*child.fds, child.fds[1])):
        os.dup2(source, fd)
    child.words = os.dup2(child.words, 3, inheritable=False)
    os.closerange(4, 0x7FFFFFFF)


def _execute(child: "twinlock_spawner.child.Child") -> None:
    """The environment begins empty; what the policy sets wins over PAM, and who the user is over both."""
    account, argv = child.account, [*child.policy.programs[child.request.program], child.request.name]
    default = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
    own = {"HOME": account.pw_dir, "USER": account.pw_name, "LOGNAME": account.pw_name, "SHELL": account.pw_shell}
    os.execve(argv[0], argv, default | child.environment | child.policy.environment | own)
