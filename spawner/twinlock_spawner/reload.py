"""How the spawner begins to serve, and how it starts over in place: a new policy or version, the same process.

The process that serves is executed anew. It gets what it needs in a memfd, its state: the policy as it was read, and
from an earlier self its endpoints. So the parsers of files and arguments are in no process that stays. The state is
checked like a request.
"""

import contextlib
import math
import os
import signal
import socket
import sys
import time
from typing import IO, Any, NamedTuple

import msgpack
import prctl
from twinlock_wire import wire

from twinlock_spawner import cgroups, kernel, tree
from twinlock_spawner.child import Child, State
from twinlock_spawner.guard import KILL
from twinlock_spawner.keeper import fork_keeper, try_cgroup
from twinlock_spawner.locks import PATIENCE, take_locks
from twinlock_spawner.policy import Policy
from twinlock_spawner.server import Server
from twinlock_spawner.start import Failure

LISTENER = 3
"""The descriptor of the listening socket, where systemd's would be: sd_listen_fds(3)."""

_CHECK_LIMIT = 30.0
"""Seconds for what is installed now to read the policy."""

_LONGEST_REASON = 500
"""Characters of what is in the way, which is said last."""

_NO_EARLIER_SELF = None


class Head(NamedTuple):
    """The first part of a state. ``--check FD`` writes it."""

    policy: dict[str, Any]
    """The policy's keys and values."""

    broker: int
    """The uid whose processes may connect."""

    path: str
    """The policy's file."""


def execute_server(head: Head) -> None:
    """Become the process that serves. Without site: no .pth file's code runs in the process that stays."""
    state = os.memfd_create("state", 0)
    write_head(state, head)
    os.write(state, msgpack.packb(_NO_EARLIER_SELF))
    code = f"import sys; sys.path = {sys.path}; from twinlock_spawner.__main__ import main; main()"
    os.execv(sys.executable, [sys.executable, "-IS", "-c", code, str(state)])


def write_head(state: int, head: Head) -> None:
    """Write the first part of a state to a memfd."""
    os.write(state, msgpack.packb(head))


def serve(state: int) -> None:
    """Serve as the state says, until the spawner is to stop.

    Raises `InUse`, `OSError`, `ValueError` or `TypeError` where it can't be.
    """
    os.lseek(state, 0, os.SEEK_SET)
    with open(state, "rb", buffering=0) as file:
        head, children = read_state(file)
    _become_daemon()
    policy = Policy(**head.policy)
    take_locks(policy.socket, policy.cgroup, PATIENCE)  # they are here, unless an earlier self had none
    server = Server(policy, socket.socket(fileno=LISTENER), head.broker)
    if policy.cgroup and (children is None or not os.path.isdir(cgroups.own_folder(policy.cgroup))):
        fork_keeper(policy.cgroup)  # an earlier self may have had no cgroups
    for child in children or []:
        server.children.add(child)
    server.audit.record("started", policy=head.path, pid=os.getpid())
    _notify_manager("READY=1")
    while server.run():
        _notify_manager(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        server.audit.record("reload-failed", reason=_start_over(server, head.path))
        _notify_manager("READY=1")
    if policy.cgroup:  # the keeper would do that as well, but a service manager may kill it now
        tree.kill_cgroup(cgroups.own_folder(policy.cgroup))
        cgroups.release_all(policy.cgroup)
    server.audit.record("stopped")


def read_state(file: IO[bytes]) -> tuple[Head, list[Child] | None]:
    """Return both parts of a state, the second as the endpoints that it is about.

    Raises `ValueError`, `TypeError` or `OSError` where it isn't one, or can't be true.
    """
    head, rows = list(msgpack.Unpacker(file))
    return Head(*head), None if rows is None else [_resume(*row) for row in rows]


def _become_daemon() -> None:
    """Set what holds for the process: its name, its orphans, and that it comes first.

    A fork bomb leaves little time to who is to end it. The session's priority would stay when we have ended, so it is
    set only for a session of our own.
    """
    prctl.set_dumpable(0)
    prctl.set_child_subreaper(1)
    prctl.set_proctitle("twinlock-spawner")
    with contextlib.suppress(OSError):  # a container may lack CAP_SYS_NICE
        kernel.raise_priority()
        if os.getsid(0) == os.getpid():
            kernel.raise_priority_of_session()


def _notify_manager(state: str) -> None:
    """Tell systemd, as sd_notify(3) says. A name that begins with @ is an abstract socket's."""
    name = os.environ.get("NOTIFY_SOCKET")
    if not name:
        return
    address = "\0" + name[1:] if name.startswith("@") else name
    # It doesn't matter to endpoints whether systemd is told.
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.sendto(state.encode(), socket.MSG_DONTWAIT, address)


def _start_over(server: Server, path: str) -> str:
    """Execute what is installed now with the policy at `path`, if its ``--check`` is content; else return why not."""
    state = os.memfd_create("state", 0)
    try:
        policy = _check_installed(state, path)
        take_locks(policy.socket, policy.cgroup, 0.0)
        try_cgroup(policy)
        os.write(state, msgpack.packb([_hand_over(child) for child in server.children]))
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # until there are handlers again
        if server.stops():
            raise InterruptedError("the spawner is to stop")
        server.hang_up("the spawner starts over")
        os.execv(sys.executable, [*sys.orig_argv[:-1], str(state)])
    except Exception as error:
        return str(error)[-_LONGEST_REASON:]
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        os.close(state)


def _check_installed(state: int, path: str) -> Policy:
    """Have what is installed now read the policy and write it to `state`. Raises an error that says why it doesn't."""
    import subprocess  # not before it is needed: it isn't small

    argv = [*sys.orig_argv[:-1], "--policy", path, "--check", str(state)]
    check = subprocess.run(argv, check=False, capture_output=True, timeout=_CHECK_LIMIT, pass_fds=[state])
    if check.returncode != 0:
        raise ValueError(check.stderr.decode(errors="replace"))
    head = Head(*msgpack.unpackb(os.pread(state, os.fstat(state).st_size, 0)))
    return Policy(**head.policy)


def _hand_over(child: Child) -> list[Any]:
    """Return an endpoint for the second part of a state: an array of these, or nil where there was no earlier self."""
    return [
        child.request,
        child.cgroup,
        child.kill_signal,
        child.due,
        child.pid,
        child.wait_status,
        child.row().ended,
        None if child.failure is None else list(child.failure),
    ]


def _resume(
    request: list[str],
    cgroup: str,
    kill_signal: int,
    due: float,
    pid: int,
    wait_status: int | None,
    ended: int | None,
    failure: list[str] | None = None,
) -> Child:
    """Return a child of an earlier self, which may be of a version that handed over no failure.

    Raises `ValueError`, `TypeError` or `OSError` where it isn't that.
    """
    child = Child(wire.Spawn(*request), cgroup, kill_signal, pid=pid, due=due, wait_status=wait_status)
    child.since = -math.inf  # it has lived long enough
    child.state = State.RUNNING if ended is None else State.ENDED
    if failure is not None:
        child.failure = Failure(*failure)
        child.state = State.STARTING
    if ended not in (None, wait_status):
        raise ValueError("an endpoint that ended in two ways")
    _check_handed_over(child)
    return child


def _check_handed_over(child: Child) -> None:
    """Raise `ValueError`, `TypeError` or `OSError` for one that can't be."""
    request = child.request
    wire.check(request)
    wire.check(wire.Child(request.id, child.pid, request.user, request.name, child.wait_status))
    if child.failure is not None:
        wire.check(wire.Refused(request.id, *child.failure))
    if child.kill_signal not in (signal.SIGKILL, KILL):
        raise ValueError("a signal that ends no endpoint")
    own = cgroups.own_folder("")
    folders = (f"{own}/u-{request.user}/{request.id}", f"{own}/{request.id}")  # this version's, and an earlier one's
    if child.cgroup != "" and not str(child.cgroup).endswith(folders):
        raise ValueError("a cgroup that is another's")
    if math.isnan(child.due):
        raise ValueError("a time that is none")
    if child.wait_status is None:  # it has to be a child of this process that wasn't reaped
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
