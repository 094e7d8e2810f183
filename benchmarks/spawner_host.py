"""A spawner under measurement, which starts one of two programs in C: one sleeps, one writes the time and ends."""

import os
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from spawner_rig import MANAGER, Spawner, launch, sealed, stop, uep
from twinlock_wire import wire

MANY = 1000  # endpoints held at a time
AT_ONCE = 100  # of them that are ending at a time

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


@contextmanager
def running_host(user: str, programs: dict[str, list[str]], cgroup: str) -> Iterator[Host]:
    """Run a spawner that allows whatever a measurement asks for."""
    policy = {"cgroup": cgroup, "programs": programs, "max_children": 2 * MANY, "max_children_per_user": 2 * MANY}
    rates = {"start_rate": 1_000_000, "start_rate_per_user": 1_000_000}
    with tempfile.TemporaryDirectory(prefix="twl-bench-", dir="/var/tmp") as name, ExitStack() as stack:
        spawner = launch(Path(name), policy | rates, ("env", "--unset=TWINLOCK_MEASURED"))
        stack.callback(stop, spawner)
        yield Host(spawner, user)


def compiled(folder: Path) -> dict[str, list[str]]:
    """Compile the programs into a folder; return their command lines by name."""
    for name, source in (("clock", CLOCK), ("sleep", SLEEP)):
        argv = ["gcc", "-O2", "-static", "-x", "c", "-", "-o", str(folder / name)]
        subprocess.run(argv, input=source.encode(), check=True)
    return {name: [str(folder / name)] for name in ("clock", "sleep")}
