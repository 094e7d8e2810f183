"""One endpoint's process: how it turns, stage by stage, from root into the user; how it is ended.

Where a stage fails, the child writes the stage's name and the reason into a pipe that closes on exec, and ends. So the
spawner learns of success by the pipe's end and of failure by its text.
"""

import contextlib
import grp
import io
import os
import pwd
import resource
import signal
import socket
import time
from ctypes import PyDLL, c_uint64, get_errno
from itertools import pairwise

import prctl
from twinlock_shared import wire

from twinlock_spawner import guard, user
from twinlock_spawner.audit import Audit
from twinlock_spawner.policy import Policy, check_trusted

# syscall(2); this machine's numbers of keyctl(2) and clone(2). Found out here: what a child does first takes long.
_CALL = PyDLL(None, use_errno=True).syscall
_KEYCTL, _CLONE = {"x86_64": (250, 56), "aarch64": (219, 220), "ppc64le": (271, 120)}[os.uname()[4]]


class Child:
    """What was asked for; what the spawner knows of the process; what the process finds out in its stages."""

    def __init__(self, policy: Policy, audit: Audit, request: wire.Spawn, fds: list[int], cgroup: str) -> None:
        """`fds` are its stdin, and what becomes its stdout and stderr; `cgroup` the path of its own, if any."""
        self.policy, self.audit, self.request, self.fds, self.cgroup = policy, audit, request, fds, cgroup
        self.kill: int = signal.SIGKILL if cgroup and not policy.pam_service else guard.KILL  # the signal that ends it
        self.since, self.pid, self.parent, self.root = time.monotonic(), 0, os.getpid(), os.geteuid() == 0
        self.report: socket.socket | None = None  # where that comes from, until it is sure that the program runs
        # Its wait status; the same, once nothing that it started is left.
        self.status, self.ended = list[int | None]([None, None])
        self.account: pwd.struct_passwd
        # The stage that the process is at. The one that failed, and the reason in the next line. The account's groups.
        # What PAM sets for it.
        self.stage, self.failure, self.groups, self.environment = "fork", "", list[int](), dict[str, str]()

    def row(self) -> wire.Child:
        """The child as the broker knows it."""
        return wire.Child(self.request.id, self.pid, self.request.user, self.request.name, self.ended)

    def start(self) -> socket.socket:
        """Fork, and go through the stages in the child; where it reports. Raises `OSError`."""
        self.report, report = socket.socketpair()
        self.pid = fork("" if self.kill == guard.KILL else self.cgroup) or self._run(report.fileno())
        return self.report

    def _run(self, report: int) -> int:
        """In the child: whatever happens, it doesn't come back."""
        self.words = report
        try:
            self.close_others()
            for stages in (guard.stand, _identify, _become, user.go):
                stages(self)
        except BaseException as error:
            os.write(self.words, f"{self.stage}\n{error}".encode(errors="replace")[:4000])
        finally:
            os._exit(os.EX_OSERR)

    def close_others(self) -> None:
        """Close what the stages don't need: the spawner's locks, listener and connection, and what modules opened."""
        signal.set_wakeup_fd(-1)  # Python would write to whatever gets that number
        kept = sorted({2, self.audit.fd, self.words, *self.fds})
        for lower, upper in pairwise([*kept, 0x7FFFFFFF]):
            os.closerange(lower + 1, upper)


def fork(cgroup: str, flags: int = 0) -> int:
    """As `os.fork`, with flags of clone(2); and if `cgroup` isn't empty, into a new one at that path instead.

    To move there later, the kernel waits 10 ms for all processors. What Python and libc do beside a fork is for other
    threads, and there are none; it would make the child copy fifty pages more.
    """
    if cgroup:
        os.mkdir(cgroup)
        folder = os.open(cgroup, os.O_PATH | os.O_CLOEXEC)
        # clone3(2), a number on all machines: CLONE_INTO_CGROUP, the signal of its end, the cgroup.
        pid: int = _CALL(435, (c_uint64 * 11)(1 << 33, 0, 0, 0, signal.SIGCHLD, *[0] * 5, folder), 88)
        os.close(folder)
    else:
        pid = _CALL(_CLONE, flags | signal.SIGCHLD, 0, 0, 0, 0)
    if pid < 0:
        raise OSError(error := get_errno(), os.strerror(error))
    return pid


def end_tree(cgroup: str) -> bool:
    """Kill all in a cgroup, racing forks included (Linux 5.14), and remove it; True when that is done."""
    with contextlib.suppress(OSError):  # gone already, or busy until they have died
        # Not for reading as well, which only root may.
        with open(os.open(f"{cgroup}/cgroup.kill", os.O_WRONLY | os.O_CLOEXEC), "wb", 0) as kill:
            kill.write(b"1")
        for pid in io.FileIO(f"{cgroup}/cgroup.procs").readall().split():  # spared: those whose first thread has ended
            os.kill(int(pid), signal.SIGKILL)
        os.rmdir(cgroup)
    return not os.path.exists(cgroup)


def _identify(child: Child) -> None:
    """Who is it, and may it be? In the child, since NSS runs modules of the site, which may hang (sssd, LDAP)."""
    child.stage = "lookup"
    os.setpriority(os.PRIO_PROCESS, 0, max(0, os.getpriority(os.PRIO_PROCESS, 0)))  # not ahead of others, as we are
    child.account = account = pwd.getpwnam(name := child.request.user)
    child.groups = os.getgrouplist(name, account.pw_gid)
    child.stage = "policy"
    policy, allowed = child.policy, {grp.getgrnam(group).gr_gid for group in child.policy.allow_groups}
    for forbidden, reason in (
        (account.pw_name != name, f"is another name of {account.pw_name}"),
        (account.pw_uid < max(1, policy.min_uid), f"is a system account (its uid is below {policy.min_uid})"),
        (name in policy.deny_users, "is denied"),
        (policy.allowed_shells and account.pw_shell not in policy.allowed_shells, "has a shell that is not allowed"),
        (allowed and allowed.isdisjoint(child.groups), "is in none of the groups that are allowed"),
    ):
        if forbidden:
            raise ValueError(f"account {name} {reason}")
    child.stage = "program"
    check_trusted(policy.programs[child.request.program][0])
    child.stage = "audit"  # the last line before the identity changes
    if not child.audit.line("identity", id=child.request.id, user=name, uid=account.pw_uid, groups=str(child.groups)):
        raise OSError("the audit log can't be written")


def _become(child: Child) -> None:
    """Shed what is the service's and not the user's, then go from root to the user for good.

    Without root, the own account is all that `_identify` allows. PAM may set limits and a keyring anew.
    """
    if child.root:
        child.stage = "limits"
        for name, pair in child.policy.rlimits.items():
            # -1 is none; raising it needs a capability that containers lack.
            most = resource.getrlimit(limit := getattr(resource, f"RLIMIT_{name.upper()}"))[1]
            soft, hard = (value if most == -1 or -1 < value < most else most for value in pair)
            resource.setrlimit(limit, (soft, hard))
        io.FileIO("/proc/self/oom_score_adj", "r+").write(b"0")
        if _CALL(_KEYCTL, 1, None) < 0:  # KEYCTL_JOIN_SESSION_KEYRING: session-keyring(7)
            raise OSError("there is no session keyring to be had")
    guard.open_session(child) if child.policy.pam_service else None
    os.setsid()
    if child.root:
        child.stage = "bounding"  # where setuid programs shall work they need it
        list(map(prctl.capbset_drop, prctl.ALL_CAPS if child.policy.no_new_privs else ()))
        child.stage = "groups"
        os.setgroups(child.groups)
        child.stage = "gid"
        os.setresgid(*[child.account.pw_gid] * 3)
        child.stage = "uid"
        os.setresuid(*[child.account.pw_uid] * 3)
