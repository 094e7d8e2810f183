"""Our user endpoint and the agent's, side by side: the same queues, document and RabbitMQ, in turns. As root.

``endpoint.py [ROUNDS [TASKS [FLOOD]]]``. Each round starts both with LocalProvider and one worker, and measures from
the program's start: the first heartbeat, the first result of a task that waited, the memory of all their processes, a
warm round trip at the queue, one with 10 MiB each way, TASKS tasks that were queued before the start, with the
processor time they took, and nine endpoints that are started at once. Prints the medians of all rounds, and ours
divided by the agent's beside the goal. With FLOOD, ours alone then drains so many tasks, and its memory is watched.
"""

import asyncio
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psutil
from endpoint_rig import NOBODY, AgentQueues, Running, endpoint_name, run, task_body, value
from twinlock_service.rabbitmq.management import Management
from twinlock_service.rabbitmq.node_files import VHOST
from twinlock_service.rabbitmq.private_node import Node, private_node

CONFIG = """
engine:
  type: GlobusComputeEngine
  max_workers_per_node: 1
  address: 127.0.0.1
  provider: {type: LocalProvider, init_blocks: 1, max_blocks: 1}
heartbeat_period: 30
"""
WARM = 20  # round trips of which a median is taken
SETTLE = 2.0  # seconds of rest before memory is measured
AT_ONCE = 9
LARGE = 7 * 2**20  # characters; some 10 MiB on the way, serialized in base64
LIMIT = 300.0  # seconds for anything
GOALS = {  # ours divided by the agent's, at most
    "start to online, s": 0.4,
    "start to first result, s": 0.2,
    "memory (PSS), MB": 0.35,
    "warm round trip, s": 1.0,
    "round trip with 10 MiB each way, s": 1.0,
    "seconds per task, queued before": 1 / 2.5,
    "processor seconds per 1,000 tasks": 0.4,
    "nine at once, all online, s": 0.4,
}
MOST = {"warm round trip, s": 0.010}  # of ours, whatever the agent has
FLAT = 1.1  # the flood's most memory, divided by what it was when a tenth was done


@dataclass(frozen=True)
class Program:
    """One of the two endpoints, and its RabbitMQ: an administrator's URL, and an endpoint's."""

    admin: str
    url: str
    path: Path
    words: tuple[str, ...] = ()


def nothing() -> None:
    """Do nothing: the task."""


def same(text: str) -> str:
    """Return what was sent: the task with much to carry."""
    return text


def main() -> int:
    """Measure and print. Return 1 if a goal is missed, else 0."""
    rounds, tasks, flood = (int(word) for word in [*sys.argv[1:], *("5", "10000", "0")[len(sys.argv) - 1 :]])
    prefix = Path(sys.executable).parent
    found: dict[str, list[dict[str, float]]] = {"ours": [], "agent": []}
    with _node() as (admin, url):
        ours = Program(admin, url, prefix / "twinlock-endpoint")
        theirs = prefix.parent / "peer" / "bin" / "globus-compute-endpoint"
        programs = {"ours": ours, "agent": Program(admin, url, theirs, ("_start-user-endpoint",))}
        for number in range(rounds):
            for name in sorted(programs, reverse=bool(number % 2)):
                print(f"round {number + 1} of {rounds}: {name}", file=sys.stderr, flush=True)
                found[name].append(_measure(programs[name], tasks))
        missed = _tell(found) if rounds else 0
        if flood:
            missed += _flood(ours, flood)
    return 1 if missed else 0


def _tell(found: dict[str, list[dict[str, float]]]) -> int:
    """Print the table, and return how many goals were missed."""
    missed = 0
    print(f"{'':36}{'ours':>12}{'agent':>12}{'ratio':>8}{'goal':>8}")
    for what, goal in GOALS.items():
        ours, agent = (statistics.median(one[what] for one in found[name]) for name in ("ours", "agent"))
        over = ours / agent > goal or ours > MOST.get(what, ours)
        missed += over
        most = f"  at most {MOST[what]}" if what in MOST else ""
        print(f"{what:36}{ours:>12,.4f}{agent:>12,.4f}{ours / agent:>8.2f}{goal:>8.2f}{most}{'  MISSED' * over}")
    return missed


@contextmanager
def _node() -> Iterator[tuple[str, str]]:
    """Run a private RabbitMQ while the block runs; yield its administrator's URL and an endpoint's."""
    with tempfile.TemporaryDirectory(prefix="twinlock-bench-", dir="/var/tmp") as name:
        Path(name).chmod(0o755)
        loop = asyncio.new_event_loop()
        node_in = private_node(Path(name))
        node: Node = loop.run_until_complete(node_in.__aenter__())
        try:
            loop.run_until_complete(_user(node))
            yield str(node.url), str(node.url.with_user("endpoint").with_password("endpoint"))
        finally:
            loop.run_until_complete(node_in.__aexit__(None, None, None))


async def _user(node: Node) -> None:
    async with aiohttp.ClientSession() as session:
        await Management(session, node.management_url, VHOST).user("endpoint", "endpoint", read=".*", write=".*")


def _measure(program: Program, tasks: int) -> dict[str, float]:
    """Measure the small figures with one endpoint, the queued tasks with another, and then nine at once."""
    found = {}
    with _endpoint(program, Waiting(program, 1)) as (running, queues):
        queues.heartbeat(LIMIT)
        found["start to online, s"] = time.monotonic() - running.started
        value(queues.result(queues.asked[0], LIMIT))
        found["start to first result, s"] = time.monotonic() - running.started
        found["warm round trip, s"] = statistics.median(_round_trip(queues, nothing) for _ in range(WARM))
        time.sleep(SETTLE)
        found["memory (PSS), MB"] = _memory()
        found["round trip with 10 MiB each way, s"] = _round_trip(queues, same, "x" * LARGE)
    with _endpoint(program, Waiting(program, tasks)) as (_, queues):
        seconds = queues.drain(tasks)
        found["seconds per task, queued before"] = seconds / tasks
        found["processor seconds per 1,000 tasks"] = _processor_seconds() / tasks * 1000
    found["nine at once, all online, s"] = _at_once(program)
    return found


def _round_trip(queues: AgentQueues, function: Any, *arguments: Any) -> float:
    begun = time.monotonic()
    value(queues.result(queues.submit(function, *arguments), LIMIT))
    return time.monotonic() - begun


def _at_once(program: Program) -> float:
    made = [Waiting(program, 0) for _ in range(AT_ONCE)]
    begun = time.monotonic()
    with ExitStack() as stack:
        for _, queues in [stack.enter_context(_endpoint(program, queues)) for queues in made]:
            queues.heartbeat(LIMIT)
        return time.monotonic() - begun


def _flood(program: Program, tasks: int) -> int:
    """Drain so many tasks and watch the memory. Return 1 if it grows, else 0."""
    with _endpoint(program, Waiting(program, tasks)) as (_, queues):
        samples = []
        for _ in range(10):
            queues.drain(tasks // 10)
            samples.append(_memory())
    growth = max(samples) / samples[0]
    print(f"{tasks:,} queued tasks, memory after each tenth, MB: {', '.join(f'{one:.1f}' for one in samples)}")
    print(f"{'most memory by the first, ratio':60}{growth:>8.2f}{FLAT:>8.2f}{'  MISSED' * (growth > FLAT)}")
    return int(growth > FLAT)


def _memory() -> float:
    return float(sum(process.memory_full_info().pss for process in _processes()) / 1e6)


def _processor_seconds() -> float:
    used = [process.cpu_times() for process in _processes()]
    return sum(one.user + one.system + one.children_user + one.children_system for one in used)


class Waiting(AgentQueues):
    """Queues in which tasks wait before the endpoint starts; `asked` are their ids."""

    def __init__(self, program: Program, tasks: int) -> None:
        super().__init__(program.admin, program.url)
        self.asked = [self._put() for _ in range(tasks)]

    def drain(self, count: int) -> float:
        """Take so many results, and return the seconds from the first to the last."""
        begun = 0.0
        taken = self._channel.consume(self.result_queue, auto_ack=True, inactivity_timeout=LIMIT)
        for number, (method, _, _) in enumerate(taken, 1):
            assert method is not None, f"no more results within {LIMIT} s"
            begun = begun or time.monotonic()
            if number == count:
                break
        return time.monotonic() - begun

    def _put(self) -> str:
        task = str(uuid.uuid4())
        self.publish(task_body(task, nothing), task_uuid=task)
        return task


@contextmanager
def _endpoint(program: Program, queues: Waiting) -> Iterator[tuple[Running, Waiting]]:
    home = Path(tempfile.mkdtemp(prefix="bench-home-", dir="/var/tmp"))
    name = endpoint_name(queues)
    folder = home / ".globus_compute" / name
    folder.mkdir(parents=True)  # the agent needs it
    for path in (home, folder.parent, folder):
        os.chown(path, NOBODY, NOBODY)
    told: dict[str, Any] = {"amqp_creds": queues.creds(), "config": CONFIG, "ep_info": {"posix_ppid": os.getpid()}}
    running = run(home, queues, json.dumps(told).encode(), *program.words, name, program=program.path)
    try:
        yield running, queues
    finally:
        with suppress(ProcessLookupError):
            running.signal()
        running.end(LIMIT)
        running.process.wait(20)
        queues.close()
        shutil.rmtree(home, ignore_errors=True)


def _processes() -> list[psutil.Process]:
    """Return all processes of the user, but the one that keeps them together for the measurement."""
    found = [one for one in psutil.process_iter(["uids", "status"]) if one.info["uids"].real == NOBODY]
    found = [one for one in found if one.info["status"] != psutil.STATUS_ZOMBIE]
    return [process for process in found if not any("set_child_subreaper" in word for word in process.cmdline())]


if __name__ == "__main__":
    sys.exit(main())
