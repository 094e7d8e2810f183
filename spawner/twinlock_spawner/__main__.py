"""``twinlock-spawner --policy FILE [--check]``: from the policy to a spawner that serves, or serves again in place.

Again means: for a new policy or a new version, with the process, its children and their pidfds as they are. The state
goes over in a memfd and is checked like a request before anything is done with it.
"""

import argparse
import io
import os
import signal
import socket
import sys
from glob import glob
from pathlib import Path

import msgpack
import prctl
from twinlock_shared import wire

from twinlock_spawner.audit import Audit
from twinlock_spawner.child import Child, end_tree
from twinlock_spawner.policy import Policy, PolicyError, account, load
from twinlock_spawner.server import STOP, Server


def main() -> None:
    """Serve; exit with 0, 78 (policy), 100 (usage), 111 (system).

    It starts over as ``python -I`` unless it runs so: no environment variable, user site or working directory counts.
    """
    if not sys.flags.isolated:
        os.execv(sys.executable, [sys.executable, "-I", "-m", "twinlock_spawner", *sys.argv[1:]])
    parser = argparse.ArgumentParser("twinlock-spawner", description="Start user endpoints as the policy allows.")
    parser.add_argument("--policy", default="/etc/twinlock/spawner.toml", metavar="FILE", help="policy (TOML)")
    parser.add_argument("--check", action="store_true", help="read the policy and exit: 0, or 78 with the reason")
    parser.add_argument("--state", type=int, help=argparse.SUPPRESS)  # what an earlier self left
    try:
        options = parser.parse_args()
        policy = load(options.policy)
        uid, gid = account(policy.broker_user)
        if not options.check:
            _serve(policy, options, uid, gid)
    except SystemExit as end:  # argparse's
        sys.exit(100 if end.code else 0)
    except (OSError, ValueError, TypeError, OverflowError) as error:
        print(f"twinlock-spawner: {error}", file=sys.stderr)
        sys.exit(os.EX_CONFIG if isinstance(error, PolicyError) else 111)


def _serve(policy: Policy, options: argparse.Namespace, uid: int, gid: int) -> None:
    prctl.set_dumpable(0)
    prctl.set_child_subreaper(1)
    prctl.set_proctitle("twinlock-spawner")
    os.umask(0o077)
    fd, rows, audit = 3, [], Audit(policy.audit_log)
    if options.state is not None:
        with open(options.state, "rb") as state:
            fd, rows = msgpack.unpackb(os.pread(state.fileno(), 1 << 30, 0))
    if policy.cgroup and (options.state is None or not os.path.isdir(f"{policy.cgroup}/{os.getpid()}")):
        _keep(policy.cgroup)  # an earlier self of ours may have had no cgroups
    given = options.state is not None or os.environ.get("LISTEN_PID") == str(os.getpid())  # sd_listen_fds(3)
    listener = socket.socket(fileno=int(fd)) if given else _listen(policy.socket, gid)
    server = Server(policy, audit, listener, uid)
    server.children = {child.request.id: child for child in [_resume(policy, audit, *row) for row in rows]}
    audit.line("started", policy=options.policy, pid=os.getpid())
    while server.run():
        audit.line("reload-failed", reason=_start_over(server, options.policy))
    audit.line("stopped")


def _listen(path: str, gid: int) -> socket.socket:
    """A listening SOCK_SEQPACKET socket at `path` that root and the broker's group `gid` may connect to.

    By path and never abstract: permissions mean nothing on an abstract socket (unix(7)).
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    Path(path).unlink(missing_ok=True)
    listener.bind(path)  # by the process's umask it is root's alone until the next lines
    os.chown(path, -1, gid)
    os.chmod(path, 0o660)
    listener.listen(1)
    return listener


def _keep(folder: str) -> None:
    """Fork the keeper: when the spawner has ended, whatever ended it, the keeper kills all in its part of `folder`.

    First of all end what an earlier spawner left whose keeper was killed as well.
    """
    spawner, own = os.getpid(), f"{folder}/{os.getpid()}"
    for path in (*glob(f"{folder}/*/*/"), *glob(f"{folder}/*/")):
        end_tree(path)
    os.makedirs(own, exist_ok=True)
    if os.fork() == 0:
        os.setsid()  # what ends the spawner mustn't end its keeper
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        prctl.set_proctitle("twinlock-spawner-keeper")
        prctl.set_pdeathsig(signal.SIGUSR1)
        if os.getppid() == spawner:  # not ended before that was set
            signal.sigwait({signal.SIGUSR1})
        while not all([*map(end_tree, (*glob(f"{own}/*/"), own))]):
            signal.sigtimedwait({signal.SIGUSR1}, 0.02)
        os._exit(0)


def _start_over(server: Server, path: str) -> str:
    """Execute what is installed now with the policy at `path`, if its ``--check`` is content; else return why not."""
    import subprocess  # not before it is needed: it isn't small

    argv = [sys.executable, "-I", "-m", "twinlock_spawner", "--policy", path]
    state = io.FileIO(os.memfd_create("state"), "w")
    children = server.children.values()
    rows = [(c.request, c.cgroup, c.kill, c.due, c.pid, c.pidfd.fileno(), c.status, c.ended) for c in children]
    state.write(msgpack.packb([server.listener.fileno(), rows]))
    try:
        subprocess.run([*argv, "--check"], check=True, capture_output=True, timeout=10)
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # until there are handlers again
        for fd in (state.fileno(), server.listener.fileno(), *(row[5] for row in rows)):
            os.set_inheritable(fd, True)
        if server.signals & STOP:
            raise InterruptedError("the spawner is to stop")
        os.execv(argv[0], [*argv, "--state", str(state.fileno())])
    except (OSError, subprocess.SubprocessError) as error:
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        return str(getattr(error, "stderr", b"") or error)[-500:]


def _resume(policy: Policy, audit: Audit, request: list[str], cgroup: str, *row: int) -> Child:
    """A child as an earlier self left it. Raises `ValueError`, `TypeError` or `OSError` where it isn't that."""
    child = Child(policy, audit, wire.Spawn(*request), [], cgroup)
    child.kill, child.due, child.pid, pidfd, child.status, child.ended = row
    wire.check(child.row())
    # The kernel shows -1 for a process that was reaped.
    if f"Pid:\t{child.pid if child.status is None else -1}\n" not in Path(f"/proc/self/fdinfo/{pidfd:d}").read_text():
        raise ValueError(f"file descriptor {pidfd} is no pidfd of process {child.pid}")
    child.pidfd = io.FileIO(pidfd)
    return child


if __name__ == "__main__":
    main()
