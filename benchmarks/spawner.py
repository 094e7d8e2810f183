"""How fast a real spawner starts endpoints, and what it costs to hold a thousand, beside the budgets. As root.

Two spawners run at the same time, one with a single endpoint and one that comes to hold a thousand, so that what else
the machine does changes both alike. The programs are C, compiled here: one that sleeps, and one whose first act is to
write the time. Exits with 1 where a budget is exceeded.
"""

import os
import pwd
import resource
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from figures import Table
from kernel_events import Events
from spawner_rig import MANAGER, Spawner, launch, sealed, stop, uep
from twinlock_testbed.cgroup import cgroup_folder
from twinlock_testbed.users import throw_away
from twinlock_wire import wire

MANY = 1000  # endpoints held at a time
AT_ONCE = 100  # of them that are ending at a time
TIMES = 300  # starts of which a median is taken
APART = 100, 0.05  # further starts, and seconds before each: a site has pauses, in which the kernel forgets and sleeps
FORK_TO_EXEC, MEMORY = 6.0, 16 * 1024**2  # ms, bytes
SETTLING = 4  # thousands of endpoints after which the spawner's memory has grown to the size that it keeps
LEAK = 100_000  # bytes for the next thousand: an object of 100 bytes that is kept for each
PER_START = 1.1  # times as long with a thousand children as with one: what two medians may differ by

CLOCK = """
#include <time.h>
#include <unistd.h>
int main(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return write(1, &now, sizeof now) != sizeof now;
}
"""
SLEEP = "#include <unistd.h>\nint main(void) { return pause(); }\n"
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


class Host:
    """A spawner under measurement and the broker's end of its socket."""

    def __init__(self, spawner: Spawner, user: str) -> None:
        self.spawner, self.broker, self._user = spawner, spawner.connect(), user
        self.pid = spawner.process.pid
        self._stdin = sealed()
        _, self._output = os.pipe()

    def start(self, number: int, program: str, output: int | None = None) -> None:
        """Ask for an endpoint."""
        request = wire.Spawn(uep(number), self._user, f"uep.{MANAGER}.{uep(number)}", program)
        self.broker.send(request, [self._stdin, self._output if output is None else output])

    def list(self) -> float:
        """Return how long a request takes that starts nothing, in ms."""
        before = time.monotonic_ns()
        self.broker.send(wire.List())
        while len(self.broker.receive(wire.Children).children) == wire.MAX_PAGE:
            pass
        return (time.monotonic_ns() - before) / 1e6

    def clock(self) -> tuple[float, float, int]:
        """Start the program that writes the time.

        Return the ms until its first act and until Spawned, and when that began (CLOCK_MONOTONIC, ns).
        """
        reader, writer = os.pipe()
        before = time.monotonic_ns()
        self.start(0, "clock", writer)
        os.close(writer)
        self.broker.receive(wire.Spawned)
        told = time.monotonic_ns()
        seconds, nanoseconds = struct.unpack("qq", os.read(reader, 16))
        self.broker.receive(wire.Exited)
        self.broker.send(wire.Noted(uep(0)))
        os.close(reader)
        return (seconds * 10**9 + nanoseconds - before) / 1e6, (told - before) / 1e6, before

    def start_many(self) -> float:
        """Start the sleeping program `MANY` times, one after the other. Return ms for each."""
        before = time.monotonic()
        for number in range(1, MANY + 1):
            self.start(number, "sleep")
            self.broker.receive(wire.Spawned)
        return (time.monotonic() - before) * 1000 / MANY

    def stop_many(self) -> float:
        """End them all, `AT_ONCE` at a time, so that the spawner needn't wait for us to read. Return ms for each."""
        before = time.monotonic()
        for number in range(1, MANY + AT_ONCE + 1):
            if number <= MANY:
                self.broker.send(wire.Signal(uep(number), "TERM"))
            if number > AT_ONCE:
                self.broker.send(wire.Noted(self.broker.receive(wire.Exited).id))
        return (time.monotonic() - before) * 1000 / MANY

    def memory(self) -> int:
        """Return VmRSS in bytes, when all requests so far have been carried out."""
        self.list()
        return int(Path(f"/proc/{self.pid}/status").read_text().partition("VmRSS:")[2].split()[0]) * 1024

    def files(self) -> int:
        """Return how many file descriptors are open."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def cgroups(self) -> int:
        """Return how many cgroups there are below the spawner's, its own included."""
        return len(list(Path(self.spawner.cgroup).rglob("cgroup.procs"))) if self.spawner.cgroup else 0


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
        programs = _programs(Path(folder))
        if cgroup:
            print("\na cgroup for each endpoint")
            _measure(table, account, programs, cgroup)
        else:
            print("\na cgroup for each endpoint: not measured, no cgroup v2 can be made here")
        print("\na guard for each endpoint")
        _measure(table, account, programs, "")
    return table.exit_code()


def _measure(table: Table, account: pwd.struct_passwd, programs: dict[str, list[str]], cgroup: str) -> None:
    with _host(account, programs, cgroup and f"{cgroup}-one") as one, _host(account, programs, cgroup) as many:
        table.row("memory, idle (VmRSS)", one.memory(), "bytes", MEMORY)
        _fork_to_exec(table, one)
        _hold(table, one, many)


@contextmanager
def _host(account: pwd.struct_passwd, programs: dict[str, list[str]], cgroup: str) -> Iterator[Host]:
    """Run a spawner that allows whatever a measurement asks for."""
    policy = {"cgroup": cgroup, "programs": programs, "max_children": 2 * MANY, "max_children_per_user": 2 * MANY}
    rates = {"start_rate": 1_000_000, "start_rate_per_user": 1_000_000}
    with tempfile.TemporaryDirectory(prefix="twl-bench-", dir="/var/tmp") as name, ExitStack() as stack:
        spawner = launch(Path(name), policy | rates, ("env", "--unset=TWINLOCK_MEASURED"))
        stack.callback(stop, spawner)
        yield Host(spawner, account.pw_name)


def _programs(folder: Path) -> dict[str, list[str]]:
    for name, source in (("clock", CLOCK), ("sleep", SLEEP)):
        argv = ["gcc", "-O2", "-static", "-x", "c", "-", "-o", str(folder / name)]
        subprocess.run(argv, input=source.encode(), check=True)
    return {name: [str(folder / name)] for name in ("clock", "sleep")}


def _fork_to_exec(table: Table, host: Host) -> None:
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
    table.row("fork to exec, median", starts.fork_to_exec(), "ms", FORK_TO_EXEC)
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
