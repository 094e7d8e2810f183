"""From fork to exec: the child's stages, in the order in which they have to be.

`STAGES` is the order. Each stage has a name; where one fails, the child writes the name and the reason into a pipe that
closes on exec, and ends. So the parent learns of success by the pipe's end and of failure by its text.
"""

import grp
import os
import pwd
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NoReturn

import prctl

from twinlock_spawner.policy import Policy, check_trusted
from twinlock_spawner.tree import Tree

EXIT_FAILED = 111
"""Exit code of a child that didn't come to its exec; nobody but the parent sees it."""

_REPORT_FD = 3


class StageError(Exception):
    """A stage found something wrong; the text may be shown to the user."""


@dataclass(slots=True)
class Plan:
    """What the child needs to know; `account` and `groups` are what its first stages find out."""

    policy: Policy
    user: str
    name: str
    argv: list[str]
    stdin: int
    output: int
    tree: Tree
    privileged: bool
    parent: int = field(default_factory=os.getpid)
    report: int = -1
    account: pwd.struct_passwd = field(init=False)
    groups: list[int] = field(init=False)


def run(plan: Plan) -> NoReturn:
    """Go through the stages; never returns, whatever happens."""
    stage = "start"
    try:
        for stage, step in STAGES:  # noqa: B007  the name of the stage that fails is used below
            step(plan)
    except BaseException as error:
        os.write(plan.report, f"{stage}\n{error}".encode(errors="replace")[:4000])
    finally:
        os._exit(EXIT_FAILED)


def _reset_signals(plan: Plan) -> None:
    """First of all: the parent's handlers mean nothing here, and exec would keep what is ignored or blocked."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def _lookup(plan: Plan) -> None:
    """In the child, since NSS modules of a site run foreign code and may hang (sssd, LDAP)."""
    try:
        plan.account = pwd.getpwnam(plan.user)
    except KeyError:
        raise StageError(f"there is no local account {plan.user}") from None
    plan.groups = os.getgrouplist(plan.account.pw_name, plan.account.pw_gid)


def _check_policy(plan: Plan) -> None:
    policy, account = plan.policy, plan.account
    if account.pw_uid == 0 or account.pw_uid < (policy.min_uid if plan.privileged else 1):
        raise StageError(f"account {plan.user} is a system account (its uid is below {policy.min_uid})")
    if plan.user in policy.deny_users or account.pw_name in policy.deny_users:
        raise StageError(f"account {plan.user} is denied")
    if policy.allowed_shells and account.pw_shell not in policy.allowed_shells:
        raise StageError(f"account {plan.user} has a shell that is not allowed")
    allowed = {grp.getgrnam(group).gr_gid for group in policy.allow_groups}
    if allowed and allowed.isdisjoint(plan.groups):
        raise StageError(f"account {plan.user} is in none of the groups that are allowed")
    if not plan.privileged and account.pw_uid != os.getuid():
        raise StageError(f"without root only the account of uid {os.getuid()} can be used")


def _check_program(plan: Plan) -> None:
    try:
        check_trusted(plan.argv[0])
    except OSError as error:
        raise StageError(f"the endpoint program is missing or can be changed by others than root: {error}") from error


def _enter_tree(plan: Plan) -> None:
    plan.tree.enter()


def _new_session(plan: Plan) -> None:
    os.setsid()


def _set_groups(plan: Plan) -> None:
    if plan.privileged:
        os.setgroups(plan.groups)


def _set_gid(plan: Plan) -> None:
    gid = plan.account.pw_gid
    os.setresgid(gid, gid, gid)


def _set_uid(plan: Plan) -> None:
    uid = plan.account.pw_uid
    os.setresuid(uid, uid, uid)


def _read_back(plan: Plan) -> None:
    """The kernel's word, not ours: a change of identity that failed half-way has given root away before."""
    uid, gid = plan.account.pw_uid, plan.account.pw_gid
    if os.getresuid() != (uid, uid, uid) or os.getresgid() != (gid, gid, gid):
        raise StageError("the kernel shows another uid or gid")
    if plan.privileged and set(os.getgroups()) != set(plan.groups):
        raise StageError("the kernel shows other groups")
    try:
        os.setuid(0)
    except PermissionError:
        return
    raise StageError("root could be regained")


def _check_capabilities(plan: Plan) -> None:
    """setresuid(2) from root to another uid clears them (capabilities(7)), unless a securebit says otherwise."""
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith(("CapInh", "CapPrm", "CapEff", "CapAmb")) and int(line.split()[1], 16):
                raise StageError(f"capabilities are left: {line.strip()}")


def _no_new_privs(plan: Plan) -> None:
    if plan.policy.no_new_privs:
        prctl.set_no_new_privs(1)


def _die_with_parent(plan: Plan) -> None:
    """After the change of uid, which clears the setting; then see whether the parent ended before it was made."""
    prctl.set_pdeathsig(signal.SIGTERM)
    if os.getppid() != plan.parent:
        raise StageError("the spawner ended meanwhile")


def _change_directory(plan: Plan) -> None:
    """As the user, who may be the only one that can enter the home; a missing home is no reason not to start."""
    os.umask(0o077)
    os.chdir("/")
    try:
        os.chdir(plan.account.pw_dir)
    except OSError:
        return


def _set_stdio(plan: Plan) -> None:
    os.dup2(plan.stdin, 0)
    os.dup2(plan.output, 1)
    os.dup2(plan.output, 2)
    plan.report = os.dup2(plan.report, _REPORT_FD, inheritable=False)
    os.closerange(_REPORT_FD + 1, 0x7FFFFFFF)


def _exec(plan: Plan) -> None:
    account, argv = plan.account, plan.argv
    own = {
        "HOME": account.pw_dir,
        "USER": account.pw_name,
        "LOGNAME": account.pw_name,
        "SHELL": account.pw_shell or "/bin/sh",
    }
    default = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
    try:
        os.execve(argv[0], [*argv, plan.name], default | plan.policy.environment | own)
    except OSError as error:
        raise StageError(f"the endpoint program can't be executed: {error.strerror}") from error


STAGES: tuple[tuple[str, Callable[[Plan], None]], ...] = (
    ("signals", _reset_signals),
    ("lookup", _lookup),
    ("policy", _check_policy),
    ("program", _check_program),
    ("cgroup", _enter_tree),
    ("session", _new_session),
    ("groups", _set_groups),
    ("gid", _set_gid),
    ("uid", _set_uid),
    ("readback", _read_back),
    ("capabilities", _check_capabilities),
    ("no-new-privs", _no_new_privs),
    ("parent", _die_with_parent),
    ("directory", _change_directory),
    ("stdio", _set_stdio),
    ("exec", _exec),
)
