"""From root to the user: the stages of a start, in order, in the process that becomes the endpoint.

Where one fails, its name and the reason are written to a pipe that closes on exec, and the process ends. So the
spawner learns of success by the pipe's end, and of failure by what comes out of it.
"""

import contextlib
import os
import pwd
import signal
from typing import NoReturn

import prctl
from twinlock_wire import wire

from twinlock_spawner import kernel
from twinlock_spawner.admission import check_account, check_groups, check_session_groups
from twinlock_spawner.descriptors import check_stdio
from twinlock_spawner.guard import open_session, start_guard
from twinlock_spawner.limits import set_limits
from twinlock_spawner.start import Start
from twinlock_spawner.trust import check_command

ROOT = True
ALL = False
"""Whether a stage needs root, or is for a spawner that serves its own user as well."""

_CAPABILITIES = ("CapInh", "CapPrm", "CapEff", "CapAmb")
_BOUNDING_SET = "CapBnd"


def run(start: Start, report: int) -> NoReturn:
    """Go through the stages in a process that was forked for it. Whatever happens, it doesn't come back.

    `report` is where a failure goes, as the message that the broker will get.
    """
    start.report = report
    try:
        for name, stage, needs_root in STAGES:
            start.stage = name
            if start.privileged or not needs_root:
                stage(start)
    except BaseException as error:
        reason = str(error)[: wire.MAX_TEXT].encode(errors="replace").decode()
        os.write(start.report, wire.encode(wire.Refused(start.request.id, start.stage, reason)))
    finally:
        os._exit(os.EX_OSERR)


def look_up_account(start: Start) -> None:
    """Find the account and its groups by NSS, which may run modules of the site that hang (sssd, LDAP)."""
    kernel.lower_priority()  # the spawner comes before all others, and what it starts doesn't
    start.account = pwd.getpwnam(start.request.user)
    start.groups = os.getgrouplist(start.request.user, start.account.pw_gid)


def check_program(start: Start) -> None:
    """Raise `OSError` unless only root can change the program."""
    check_command(start.policy.programs[start.request.program])


def record_identity(start: Start) -> None:
    """Write the last line before the identity changes. Raises `OSError` where the audit log can't be written."""
    recorded = start.audit.record(
        "identity",
        id=start.request.id,
        user=start.request.user,
        uid=start.account.pw_uid,
        groups=start.groups,
        command=start.request.command,
    )
    if not recorded:
        raise OSError("the audit log can't be written")


def set_login_uid(start: Start) -> None:
    """Have the host's audit rules see the user in whatever the endpoint does, as after a login."""
    if start.policy.login_uid:
        kernel.set_login_uid(start.account.pw_uid)


def leave_keyring(start: Start) -> None:
    """Leave the service's keyring, so that none of PAM's modules that give the endpoint one find it: pam_keyinit(8)."""
    if start.policy.pam_service:
        kernel.join_new_session_keyring()


def start_session(_start: Start) -> None:
    """Leave the session of whoever started this process."""
    os.setsid()


def close_audit_log(start: Start) -> None:
    """Close the last that is the spawner's, while this is still root. A guard has its own."""
    os.close(start.audit.fd)


def drop_bounding_set(start: Start) -> None:
    """Let no program gain a capability. Where setuid programs shall work they need theirs."""
    if start.policy.no_new_privs:
        kernel.drop_bounding_set()


def set_groups(start: Start) -> None:
    """Set the account's groups, or with a PAM session those that its modules have set."""
    os.setgroups(start.groups)


def set_gid(start: Start) -> None:
    """Set the gid: real, effective and saved."""
    gid = start.account.pw_gid
    os.setresgid(gid, gid, gid)


def set_uid(start: Start) -> None:
    """Set the uid: real, effective and saved. No line after this runs as root."""
    uid = start.account.pw_uid
    os.setresuid(uid, uid, uid)
    kernel.drop_capabilities()  # that leaves those to inherit, which a container may give to all of its processes
    prctl.set_dumpable(0)  # until exec nobody traces what was the spawner; the change may have set it: proc(5)


def verify_identity(start: Start) -> None:
    """Raise `ValueError` where the kernel shows anything else: a change that failed half-way has given root away."""
    uid = start.account.pw_uid
    gid = start.account.pw_gid
    if not start.privileged:
        if uid != os.geteuid():
            raise ValueError(f"account {start.account.pw_name} can't be used without root")
        return
    right_uid = os.getresuid() == (uid, uid, uid)
    right_gid = os.getresgid() == (gid, gid, gid)
    right_groups = set(os.getgroups()) == set(start.groups)
    if not (right_uid and right_gid and right_groups):
        raise ValueError("the kernel shows another uid, gid or groups")
    with contextlib.suppress(PermissionError):
        os.setuid(0)
        raise ValueError("root could be regained")


def verify_no_capabilities(start: Start) -> None:
    """Raise `ValueError` where one is left: proc(5), /proc/PID/status."""
    empty = (*_CAPABILITIES, _BOUNDING_SET) if start.policy.no_new_privs else _CAPABILITIES
    with open("/proc/self/status") as status:
        for line in status:
            name, _, value = line.partition(":")
            if name in empty and int(value, 16):
                raise ValueError(f"capabilities are left: {line.strip()}")


def join_keyring(start: Start) -> None:
    """Have a session keyring of the user's own, which it is since the user makes it. With PAM that is the modules'."""
    if not start.policy.pam_service:
        kernel.join_new_session_keyring()


def die_with_parent(start: Start) -> None:
    """End when the spawner, or the guard, does. A change of uid clears the setting, so it is made after that."""
    prctl.set_pdeathsig(signal.SIGKILL)
    if os.getppid() != start.parent:
        raise ValueError("the spawner ended meanwhile")


def set_no_new_privs(start: Start) -> None:
    """Let no setuid program give anything: PR_SET_NO_NEW_PRIVS, prctl(2)."""
    if start.policy.no_new_privs:
        prctl.set_no_new_privs(1)


def enter_home(start: Start) -> None:
    """Make the home the working directory, or ``/`` where that is missing or closed to the user."""
    os.umask(0o077)
    os.chdir("/")
    with contextlib.suppress(OSError):
        os.chdir(start.account.pw_dir)


def set_stdio(start: Start) -> None:
    """Set stdin, stdout and stderr, and until exec the report as 3; nothing else stays open."""
    os.dup2(start.stdin, 0)
    os.dup2(start.output, 1)
    os.dup2(start.output, 2)
    start.report = os.dup2(start.report, 3, inheritable=False)
    os.closerange(4, 0x7FFFFFFF)


def reset_signals(_start: Start) -> None:
    """Undo what modules of the site have ignored or blocked: the program would, too. What has a handler exec resets."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def execute(start: Start) -> None:
    """Become the program. What the policy sets wins over PAM, and who the user is over both."""
    account = start.account
    argv = [*start.policy.programs[start.request.program], start.request.name]
    environment = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        **start.environment,
        **start.policy.environment,
        "HOME": account.pw_dir,
        "USER": account.pw_name,
        "LOGNAME": account.pw_name,
        "SHELL": account.pw_shell,
    }
    os.execve(argv[0], argv, environment)


STAGES = (
    ("descriptors", Start.close_others, ALL),
    ("stdio", check_stdio, ALL),
    ("fork", start_guard, ALL),
    ("lookup", look_up_account, ALL),
    ("policy", check_account, ALL),
    ("policy", check_groups, ROOT),
    ("program", check_program, ALL),
    ("audit", record_identity, ALL),
    ("limits", set_limits, ROOT),
    ("login-uid", set_login_uid, ROOT),
    ("keyring", leave_keyring, ROOT),
    ("session", open_session, ALL),
    ("session", start_session, ALL),
    ("session-groups", check_session_groups, ROOT),
    ("descriptors", close_audit_log, ALL),
    ("bounding", drop_bounding_set, ROOT),
    ("groups", set_groups, ROOT),
    ("gid", set_gid, ROOT),
    ("uid", set_uid, ROOT),
    ("readback", verify_identity, ALL),
    ("capabilities", verify_no_capabilities, ROOT),
    ("keyring", join_keyring, ROOT),
    ("parent", die_with_parent, ALL),
    ("no-new-privs", set_no_new_privs, ALL),
    ("directory", enter_home, ALL),
    ("stdio", set_stdio, ALL),
    ("exec", reset_signals, ALL),
    ("exec", execute, ALL),
)
