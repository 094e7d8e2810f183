"""How fast a real spawner starts endpoints, and what it costs to hold a thousand, beside the budgets. As root.

Two spawners run at the same time, one with a single endpoint and one that comes to hold a thousand, so that what else
the machine does changes both alike. The programs are C, compiled here: one that sleeps, and one whose first act is to
write the time. Exits with 1 where a budget is exceeded.
"""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from figures import Table
from kernel_events import Events
from spawner_host import MANY, Host, compiled, running_host
from twinlock_testbed.cgroup import cgroup_folder
from twinlock_testbed.users import throw_away
from twinlock_wire import wire

TIMES = 300  # starts of which a median is taken
APART = 100, 0.05  # further starts, and seconds before each: a site has pauses, in which the kernel forgets and sleeps
FORK_TO_EXEC, WITH_GUARD, MEMORY = 6.0, 8.0, 16 * 1024**2  # ms, ms, bytes
SETTLING = 4  # thousands of endpoints after which the spawner's memory has grown to the size that it keeps
LEAK = 100_000  # bytes for the next thousand: an object of 100 bytes that is kept for each
PER_START = 1.1  # times as long with a thousand children as with one: what two medians may differ by

BARE = """
import os, sys, time
times = []
for _ in range(int(sys.argv[1])):
    reader, writer = os.pipe2(os.O_CLOEXEC)
    before = time.monotonic_ns()
    if not os.fork():
        os.execv("/bin/true", ["true"])
    os.close(writer)
    os.read(reader, 1)
    times.append(time.monotonic_ns() - before)
    os.close(reader)
    os.wait()
print(sorted(times)[len(times) // 2] / 1e6)
"""
STEPS = {  # how the time from the request to the program's first act divides: until when, and what is done until then
    "fork": "request, decision and fork(2)",
    "session": "until setsid(2): account, policy, limits",
    "gid": "bounding set and groups",
    "uid": "gid and uid",
    "exec": "from readback to environment",
    "program": "exec(2)",
}


def main() -> int:
    """Measure and print. Return the exit code, see above; 77 without root."""
    if os.getuid() != 0:
        print("a spawner that changes to another user needs root", file=sys.stderr)
        return 77
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    table = Table()
    cgroup = cgroup_folder(Path(f"/benchmarks/spawner{os.getpid()}"))
    with (
        throw_away(f"twl-bench{os.getpid()}") as account,
        tempfile.TemporaryDirectory(prefix="twl-bench-", dir="/var/tmp") as folder,
    ):
        Path(folder).chmod(0o755)
        programs = compiled(Path(folder))
        if cgroup:
            print("\na cgroup for each endpoint")
            _measure(table, account.pw_name, programs, cgroup)
        else:
            print("\na cgroup for each endpoint: not measured, no cgroup v2 can be made here")
        print("\na guard for each endpoint")
        _measure(table, account.pw_name, programs, "")
    return table.exit_code()


def _measure(table: Table, user: str, programs: dict[str, list[str]], cgroup: str) -> None:
    with running_host(user, programs, cgroup and f"{cgroup}-one") as one, running_host(user, programs, cgroup) as many:
        table.row("memory, idle (VmRSS)", one.memory(), "bytes", MEMORY)
        _fork_to_exec(table, one, FORK_TO_EXEC if cgroup else WITH_GUARD)
        _hold(table, one, many)


def _fork_to_exec(table: Table, host: Host, limit: float) -> None:
    """Measure from fork to exec by the kernel's events.

    Without them, measure from the request to the program's first act, less what any request takes.
    """
    try:
        events = Events()
    except OSError as error:
        print(f"  no division into steps, since the kernel doesn't tell of processes: {error}")
        events = None
    starts = _starts(host, events, TIMES)
    apart = _starts(host, events, *APART)
    table.row("Spawn to Spawned, median", statistics.median(starts.tellings), "ms")
    table.row("Spawn to first act of the program, median", statistics.median(starts.acts), "ms")
    table.row("  the same, a pause before each", statistics.median(apart.acts), "ms")
    table.row("List, median", statistics.median(starts.lists), "ms")
    table.row("fork to exec, median", starts.fork_to_exec(), "ms", limit)
    table.row("  the same, a pause before each", apart.fork_to_exec(), "ms")
    table.row("fork and exec alone, from Python as it starts", _bare(), "ms")
    for name, step in zip(STEPS.values(), zip(*starts.steps, strict=True), strict=False):
        table.row(f"  {name}", statistics.median(step), "ms")


@dataclass
class Starts:
    """Times in ms: of a request that starts nothing, until the first act, until Spawned, and of each of `STEPS`."""

    lists: list[float] = field(default_factory=list)
    acts: list[float] = field(default_factory=list)
    tellings: list[float] = field(default_factory=list)
    steps: list[list[float]] = field(default_factory=list)

    def fork_to_exec(self) -> float:
        """Return the median."""
        whole = [sum(step[1:-1]) for step in self.steps]
        return statistics.median(whole or [statistics.median(self.acts) - statistics.median(self.lists)])


def _starts(host: Host, events: Events | None, times: int, pause: float = 0.0) -> Starts:
    starts = Starts()
    for _ in range(times):
        time.sleep(pause)
        starts.lists.append(host.list())
        act, telling, asked = host.clock()
        starts.acts.append(act)
        starts.tellings.append(telling)
        told = events.of_child(host.pid) if events else {}
        if told.keys() >= STEPS.keys() - {"program"}:
            ends = [asked, *(told[step] for step in STEPS if step != "program"), asked + int(act * 1e6)]
            starts.steps.append([(end - begin) / 1e6 for begin, end in pairwise(ends)])
    return starts


def _bare() -> float:
    """Return what of it is the machine's: ms from fork(2) to exec(2), in the median, with nothing between them."""
    argv = [sys.executable, "-IS", "-c", BARE, str(TIMES)]
    return float(subprocess.run(argv, check=True, capture_output=True, timeout=60).stdout)


def _hold(table: Table, one: Host, many: Host) -> None:
    """Hold a thousand endpoints, again and again."""
    one.start(MANY + 1, "sleep")
    one.broker.receive(wire.Spawned)
    before = many.memory(), many.files(), many.cgroups()
    table.row(f"start of {MANY:,}, each", many.start_many(), "ms")
    table.row(f"memory with {MANY:,}", many.memory(), "bytes")
    _compare(table, one, many)
    table.row(f"end of {MANY:,}, each", many.stop_many(), "ms")
    table.row(f"memory after {MANY:,}, more than before", many.memory() - before[0], "bytes")
    after = 0
    for _ in range(SETTLING):
        after = many.memory()
        many.start_many()
        many.stop_many()
    grown = many.memory() - after
    table.row(f"memory after {SETTLING + 1} times {MANY:,}, more than after {SETTLING}", grown, "bytes", LEAK)
    table.row("file descriptors after all, more than before", many.files() - before[1], "", 0)
    table.row("cgroups after all, more than before", many.cgroups() - before[2], "", 0)


def _compare(table: Table, one: Host, many: Host) -> None:
    """Compare a start beside a thousand children with one beside one, in turns."""
    pairs = []
    for turn in range(TIMES):  # who is second finds the processors otherwise
        first = (many, one)[turn % 2].clock()
        second = (one, many)[turn % 2].clock()
        pairs.append((second, first) if turn % 2 else (first, second))
    for name, index in (("first act", 0), ("Spawned", 1)):
        with_many, with_one = (statistics.median(pair[host][index] for pair in pairs) for host in (0, 1))
        table.row(f"Spawn to {name} with {MANY:,}", with_many, "ms")
        table.row(f"Spawn to {name} with 1", with_one, "ms")
        table.row(f"Spawn to {name} with {MANY:,}, against with 1", with_many / with_one, "times", PER_START)


if __name__ == "__main__":
    sys.exit(main())
