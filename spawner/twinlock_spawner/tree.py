"""Ending all that an endpoint has started on this host.

Where the policy names a folder of cgroup v2, each endpoint has a cgroup below it, and ``cgroup.kill`` ends it against
racing forks (cgroups(7), Linux 5.14). Elsewhere the endpoint's descendants and session are looked for in /proc.
"""

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Protocol

_CLEAR_TIMEOUT = 5.0
"""Seconds that a start waits for what an earlier spawner left; a process that hangs in the kernel may take longer."""


class Tree(Protocol):
    """The processes of one endpoint."""

    def enter(self) -> None:
        """Called in the child while it is still root."""

    def ended(self, leader: int, uid: int, alone: bool) -> bool:
        """Kill what is left of the tree after its first process `leader` has ended; True where nothing is.

        To be asked until it is so. `uid` is the account's, `alone` says that it has no other endpoint.
        """


class CgroupTree:
    """The processes in a cgroup of their own, `folder`/`name`; it needs no other word on who belongs to it."""

    def __init__(self, folder: str, name: str) -> None:
        self._path = Path(folder) / name
        self._path.mkdir(mode=0o755, exist_ok=True)

    def enter(self) -> None:
        """Move the calling process."""
        (self._path / "cgroup.procs").write_text("0")

    def ended(self, leader: int, uid: int, alone: bool) -> bool:
        """Kill all at once, processes that are just forking included; remove the cgroup when it is empty."""
        with contextlib.suppress(OSError):  # gone already, or busy for a moment
            if "populated 1" in (self._path / "cgroup.events").read_text():
                (self._path / "cgroup.kill").write_text("1")
            else:
                self._path.rmdir()
        return not self._path.exists()


def prepare(folder: str) -> None:
    """Make the `folder` of the policy, and end what a spawner that was killed left in it. Raises `OSError`."""
    Path(folder).mkdir(mode=0o755, exist_ok=True)
    deadline = time.monotonic() + _CLEAR_TIMEOUT
    for path in Path(folder).glob("*/cgroup.kill"):
        left = CgroupTree(folder, path.parent.name)
        while not left.ended(0, 0, True) and time.monotonic() < deadline:
            time.sleep(0.01)


class SessionTree:
    """What descends from the child or is of its session.

    A process that left both (setsid(2), then its parent's end) becomes the spawner's own child, since the spawner is
    the nearest subreaper (prctl(2)). It is this endpoint's for sure only if no other one of the account is there.
    """

    def enter(self) -> None:
        """Nothing to enter: the child makes its session itself."""

    def ended(self, leader: int, uid: int, alone: bool) -> bool:
        """Kill what is found; a process that forks meanwhile is found by the next call."""
        members = self._members(leader, uid, alone)
        for pid in members:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not members

    def _members(self, leader: int, uid: int, alone: bool) -> list[int]:
        """Descendants of the spawner only: the leader was reaped, and its pid may have come to mean anything."""
        parents, sessions, uids = _processes()
        lines = {pid: _line(pid, parents) for pid in parents}
        return [
            pid
            for pid, line in lines.items()
            if os.getpid() in line[1:] and (leader in (sessions[pid], *line) or (alone and uids[pid] == uid))
        ]


def _processes() -> tuple[dict[int, int], dict[int, int], dict[int, int]]:
    """Parent, session and effective uid by pid of every process that isn't a zombie (proc(5))."""
    parents, sessions, uids = {}, {}, {}
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, parent, _, session = (path / "stat").read_text().rpartition(")")[2].split()[:4]
            uid = (path / "status").read_text().partition("\nUid:")[2].split()[1]
            if state != "Z":
                pid = int(path.name)
                parents[pid], sessions[pid], uids[pid] = int(parent), int(session), int(uid)
    return parents, sessions, uids


def _line(pid: int, parents: dict[int, int]) -> list[int]:
    """A process and its ancestors."""
    line = [pid]
    while (parent := parents.get(line[-1], 0)) and parent not in line:
        line.append(parent)
    return line
