"""The processes of an endpoint on this host, as /proc shows them (proc(5)).

Where the spawner has given the endpoint a cgroup, these are the processes in it, whatever became of their parents.
Elsewhere they are its descendants, and all of its session, where an orphan stays too. A daemon with a session of its
own isn't found then. Processes of another account are left out: what they use can't be read.
"""

import os
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Process:
    """A process, or a zombie, whose parent hasn't taken note of its end."""

    pid: int
    parent: int
    session: int
    ticks: int
    """Processor time in clock ticks: its own, and that of its children that have ended."""
    has_ended: bool

    def pss(self) -> int:
        """Return its memory in bytes, of what it shares only its part; 0 if that can't be read."""
        with suppress(OSError):
            for line in (_PROC / str(self.pid) / "smaps_rollup").read_bytes().splitlines():
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) * 1024
        return 0


def of_endpoint(endpoint_id: str) -> list[Process]:
    """Return the processes of the endpoint that this process is."""
    own = list(_of_account())
    cgroup = _cgroup(os.getpid())
    if cgroup.endswith(f"/{endpoint_id}"):
        return [process for process in own if f"{_cgroup(process.pid)}/".startswith(f"{cgroup}/")]
    return _tree(own, os.getpid())


def _tree(processes: list[Process], root: int) -> list[Process]:
    """Return the root, what is in the session that it leads, and all that descends from these."""
    children = defaultdict(list)
    for process in processes:
        children[process.parent].append(process)
    found: dict[int, Process] = {}
    waiting = [process for process in processes if root in (process.pid, process.session)]
    while waiting:
        process = waiting.pop()
        if process.pid not in found:
            found[process.pid] = process
            waiting += children[process.pid]
    return list(found.values())


def _of_account() -> Iterator[Process]:
    uid = os.geteuid()
    with os.scandir(_PROC) as entries:
        for entry in entries:
            if entry.name.isdecimal():
                with suppress(OSError):  # it has ended meanwhile
                    if entry.stat().st_uid == uid:
                        yield _read(int(entry.name))


def _read(pid: int) -> Process:
    text = (_PROC / str(pid) / "stat").read_bytes()
    fields = text.rpartition(b")")[2].split()  # a program's name may have spaces and parentheses
    state, parent, _group, session = fields[:4]
    return Process(pid, int(parent), int(session), sum(map(int, fields[11:15])), state in (b"Z", b"X"))


def _cgroup(pid: int) -> str:
    """Return the path of its cgroup v2, see cgroups(7); empty if there is none."""
    with suppress(OSError):
        for line in (_PROC / str(pid) / "cgroup").read_text(errors="replace").splitlines():
            if line.startswith("0::"):
                return line.removeprefix("0::")
    return ""
