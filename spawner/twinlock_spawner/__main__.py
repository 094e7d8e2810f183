"""``twinlock-spawner --policy FILE [--check]``: the command line."""

from __future__ import annotations

import os
import socket
import sys
from typing import TYPE_CHECKING

from twinlock_spawner import cgroups, kernel, reload
from twinlock_spawner.keeper import try_cgroup
from twinlock_spawner.locks import PATIENCE, InUse, remove_dead_socket, take_locks
from twinlock_spawner.policy import Policy, PolicyError, load, local_account

if TYPE_CHECKING:
    import argparse

_USAGE = 100
_SYSTEM = 111
_A_PERSON_ASKS = -1

_OTHER_LOGIN = (
    "login_uid: the kernel refuses to set a login uid, since this process belongs to somebody's login, over ssh for"
    " example; start the spawner by systemctl or systemd-run, or set login_uid = false"
)

_EXIT_CODES = (
    "exit codes: 0 stopped, or the policy is good; 75 another spawner or its keeper has the socket or the cgroup; "
    "78 policy; 100 usage; 111 the system refused something that the spawner can't do without"
)


def main() -> None:
    """Serve; exit with 0, 75 (another spawner is in the way), 78 (policy), 100 (usage), 111 (system).

    It starts over as ``python -I`` unless it runs so: no environment variable, user site or working directory counts.
    """
    if not sys.flags.isolated:
        os.execv(sys.executable, [sys.executable, "-I", "-m", "twinlock_spawner", *sys.argv[1:]])
    try:
        if sys.argv[0] == "-c" and len(sys.argv) == 2:
            reload.serve(int(sys.argv[1]))
        else:
            _begin()
    except InUse as error:
        _exit(os.EX_TEMPFAIL, error)
    except PolicyError as error:
        _exit(os.EX_CONFIG, error)
    except (OSError, ValueError, TypeError, OverflowError) as error:
        _exit(_SYSTEM, error)


def _exit(code: int, error: Exception) -> None:
    print(f"twinlock-spawner: {error}", file=sys.stderr)
    sys.exit(code)


def _begin() -> None:
    """Read arguments and policy; then execute the process that serves, or return if it is not wanted."""
    options = _parse_arguments()
    policy = load(options.policy)
    cgroups.check_controllers(policy)
    broker, group = local_account(policy.broker_user)
    head = reload.Head(vars(policy), broker, options.policy)
    if options.check != _A_PERSON_ASKS and os.geteuid() == 0:
        _try_out(policy, broker)
    if options.check is None:
        has_listener = os.environ.get("LISTEN_PID") == str(os.getpid())
        if not has_listener:
            os.dup2(2, reload.LISTENER)  # so that no lock gets this number, which the listener will take
        take_locks(policy.socket, policy.cgroup, PATIENCE)  # before anything of another spawner's is touched
        try_cgroup(policy)
        if not has_listener:
            _listen(policy.socket, group)
        reload.execute_server(head)
    elif options.check == _A_PERSON_ASKS:
        _warn(policy, options.policy)
    else:
        reload.write_head(options.check, head)


def _try_out(policy: Policy, uid: int) -> None:
    """Find out now what a container or a login would refuse to each endpoint.

    A process of its own tries, since nothing of it can be undone. It says what is refused, and this one ends as it did.
    """
    pid = os.fork()
    if pid:
        _, status = os.waitpid(pid, 0)
        if status:
            sys.exit(os.waitstatus_to_exitcode(status))
        return
    kernel.join_new_session_keyring()
    try:
        if policy.login_uid:
            kernel.set_login_uid(uid)
    except OSError as error:
        raise PolicyError(_OTHER_LOGIN) from error
    sys.exit()


def _parse_arguments() -> argparse.Namespace:
    try:
        return parser().parse_args()
    except SystemExit as end:
        sys.exit(_USAGE if end.code else os.EX_OK)


def parser() -> argparse.ArgumentParser:
    """Return the parser. A spawner that starts over names a file descriptor behind ``--check``, for what was read."""
    import argparse  # it is in no process that stays

    made = argparse.ArgumentParser(
        "twinlock-spawner", description="Start user endpoints as the policy allows.", epilog=_EXIT_CODES
    )
    made.add_argument("--policy", default="/etc/twinlock/spawner.toml", metavar="FILE", help="policy (TOML)")
    made.add_argument(
        "--check", nargs="?", const=_A_PERSON_ASKS, type=int, metavar="", help="read the policy and exit: 0, or 78"
    )
    return made


def _warn(policy: Policy, path: str) -> None:
    """Say what is odd in a policy that is good."""
    from twinlock_spawner.doubts import doubts

    for text in doubts(policy):
        print(f"twinlock-spawner: warning: {path}: {text}", file=sys.stderr)


def _listen(path: str, group: int) -> None:
    """Have a SOCK_SEQPACKET socket at `path` that root and the broker's `group` may connect to once it listens.

    By path and never abstract: permissions mean nothing on an abstract socket (unix(7)).
    """
    remove_dead_socket(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(path)
    os.chown(path, -1, group)
    os.chmod(path, 0o660)
    os.dup2(listener.fileno(), reload.LISTENER)  # which is taken until now, so that it isn't the same: exec keeps it


if __name__ == "__main__":
    main()
