"""``twinlock-spawner --policy FILE [--check]``: from the policy to a process that serves, or serves again in place.

The process that serves is executed anew. It gets the policy as it was read, and what an earlier self had, in a memfd:
so the parsers of files and arguments are in no process that stays. What is in the memfd is checked like a request.
"""

import contextlib
import io
import os
import select
import signal
import socket
import sys
from glob import glob

import msgpack
import prctl
from twinlock_shared import wire

from twinlock_spawner.child import Child, end_tree
from twinlock_spawner.locks import PATIENCE, InUse, remove_dead_socket, take_locks
from twinlock_spawner.policy import Policy, PolicyError, account, load
from twinlock_spawner.server import STOP, Server

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
        (_begin if sys.argv[0] != "-c" or sys.argv[2:] else _serve)()
    except SystemExit as end:  # argparse's
        sys.exit(100 if end.code else 0)
    except (InUse, OSError, ValueError, TypeError, OverflowError) as error:
        print(f"twinlock-spawner: {error}", file=sys.stderr)
        sys.exit({InUse: os.EX_TEMPFAIL, PolicyError: os.EX_CONFIG}.get(type(error), 111))


def _begin() -> None:
    """Read arguments and policy; then execute the process that serves, or return if it is not wanted."""
    import argparse

    parser = argparse.ArgumentParser(
        "twinlock-spawner", description="Start user endpoints as the policy allows.", epilog=_EXIT_CODES
    )
    parser.add_argument("--policy", default="/etc/twinlock/spawner.toml", metavar="FILE", help="policy (TOML)")
    # A spawner that starts over names a file descriptor behind it, where it wants what was read.
    parser.add_argument("--check", nargs="?", const=0, type=int, metavar="", help="read the policy and exit: 0, or 78")
    options = parser.parse_args()
    uid, gid = account((policy := load(options.policy)).broker_user)
    if options.check == 0:  # a person asks, and not a spawner that starts over
        _warn(policy, options.policy)
    if options.check is None:
        take_locks(policy.socket, policy.cgroup, PATIENCE)  # before anything of another spawner's is touched
        if os.environ.get("LISTEN_PID") != str(os.getpid()):
            _listen(policy.socket, gid)
    os.write(state := options.check or os.memfd_create("state", 0), msgpack.packb([vars(policy), uid, options.policy]))
    if options.check is None:
        os.write(state, msgpack.packb(None))
        # Without site: no .pth file's code runs in the process that stays.
        code = f"import sys; sys.path = {sys.path}; from twinlock_spawner.__main__ import main; main()"
        os.execv(sys.executable, [sys.executable, "-IS", "-c", code, str(state)])


def _warn(policy: Policy, path: str) -> None:
    """Say what is odd in a policy that is good."""
    from twinlock_spawner.doubts import doubts

    for text in doubts(policy):
        print(f"twinlock-spawner: warning: {path}: {text}", file=sys.stderr)


def _listen(path: str, gid: int) -> None:
    """Have a SOCK_SEQPACKET socket at `path` that root and the broker's group `gid` may connect to once it listens.

    By path and never abstract: permissions mean nothing on an abstract socket (unix(7)).
    """
    remove_dead_socket(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(path)
    os.chown(path, -1, gid)
    os.chmod(path, 0o660)
    os.dup2(os.dup(listener.detach()), 3)  # where systemd's would be; as one that exec keeps


def _serve() -> None:
    os.lseek(memfd := int(sys.argv[1]), 0, os.SEEK_SET)
    (values, uid, path), rows = msgpack.Unpacker(io.FileIO(memfd))
    prctl.set_dumpable(0)
    prctl.set_child_subreaper(1)
    prctl.set_proctitle("twinlock-spawner")
    # A fork bomb leaves little time to who is to end it. A container may lack CAP_SYS_NICE. The second is for a session
    # and would stay, sched(7).
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, -20)
        io.FileIO("/proc/self/autogroup" if os.getsid(0) == os.getpid() else os.devnull, "r+").write(b"-20")
    policy = Policy(**values)
    take_locks(policy.socket, policy.cgroup, PATIENCE)  # they are here, unless an earlier self had none
    server = Server(policy, socket.socket(fileno=3), uid)  # sd_listen_fds(3)
    if (folder := server.policy.cgroup) and (rows is None or not os.path.isdir(f"{folder}/{os.getpid()}")):
        _keep(folder)  # an earlier self of ours may have had no cgroups
    for row in rows or []:
        _resume(server, *row)
    server.audit.line("started", policy=path, pid=os.getpid())
    if rows is None and (name := os.environ.get("NOTIFY_SOCKET")):  # sd_notify(3); a leading @ says that it is abstract
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"READY=1", name.replace("@", "\0", name[0] == "@"))
    while server.run():
        server.audit.line("reload-failed", reason=_start_over(server, path))
    server.audit.line("stopped")


def _keep(folder: str) -> None:
    """Fork the keeper: when the spawner has ended, whatever ended it, the keeper kills all in its part of `folder`.

    First of all end what an earlier spawner left whose keeper was killed as well. The keeper has the locks too, and so
    keeps the next spawner waiting until it has ended.
    """
    spawner, own = io.FileIO(os.pidfd_open(os.getpid())), f"{folder}/{os.getpid()}"
    list(map(end_tree, (*glob(f"{folder}/*/*/"), *glob(f"{folder}/*/"))))
    os.makedirs(own, exist_ok=True)
    if os.fork() == 0:
        os.setpgid(0, 0)  # what ends the spawner mustn't end its keeper, which stays ahead of others with its session
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        prctl.set_proctitle("twinlock-spawner-keeper")
        select.select([spawner], [], [])
        while not all([*map(end_tree, (*glob(f"{own}/*/"), own))]):
            select.select([], [], [], 0.02)
        os._exit(0)


def _start_over(server: Server, path: str) -> str:
    """Execute what is installed now with the policy at `path`, if its ``--check`` is content; else return why not."""
    import subprocess  # not before it is needed: it isn't small

    state = io.FileIO(os.memfd_create("state", 0), "w")
    argv = [*sys.orig_argv[:-1], "--policy", path, "--check", str(state.fileno())]
    due, children = server.due, server.children.values()
    rows = [(c.request, c.cgroup, c.kill, due.get(c, 9e9), c.pid, c.status, c.ended) for c in children]
    try:
        subprocess.run(argv, check=True, capture_output=True, timeout=10, pass_fds=[state.fileno()])
        _take_locks_of(state.fileno())
        state.write(msgpack.packb(rows))  # behind the policy, which the check wrote
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # until there are handlers again
        if server.signals & STOP:
            raise InterruptedError("the spawner is to stop")
        os.execv(sys.executable, [*sys.orig_argv[:-1], str(state.fileno())])
    except (InUse, ValueError, TypeError, OSError, subprocess.SubprocessError) as error:
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        return str(getattr(error, "stderr", b"") or error)[-500:]


def _take_locks_of(state: int) -> None:
    """Take the locks of the policy that the check wrote to `state`, while there is still a way back."""
    values, _, _ = msgpack.unpackb(os.pread(state, os.fstat(state).st_size, 0))
    policy = Policy(**values)
    take_locks(policy.socket, policy.cgroup, 0.0)


def _resume(server: Server, request: list[str], cgroup: str, kill: int, due: float, *row: int) -> None:
    """Take over a child of an earlier self. Raises `ValueError`, `TypeError` or `OSError` where it isn't that."""
    child = Child(server.policy, server.audit, wire.Spawn(*request), [], cgroup)
    child.kill, (child.pid, child.status, child.ended) = kill, row
    wire.check(child.row())
    if child.status is None:  # it has to be a child of this process that wasn't reaped
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    server.add(child, float(due))


if __name__ == "__main__":
    main()
