"""Our user endpoint and the peer's, side by side: the same queues, document and RabbitMQ, in turns. As root.

``endpoint.py [ROUNDS [TASKS]]``. Each round starts both with LocalProvider and one worker, and measures from the
program's start: the first heartbeat, the first result of a task that waited, the memory of all their processes, a warm
round trip at the queue, and TASKS tasks that were queued before the start, with the processor time they took. Medians
of all rounds, and ours divided by the peer's beside the goal.
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
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import psutil
from endpoint_rig import NOBODY, Queues, Running, endpoint_name, run, task_body, value
from twinlock_service.management import Management
from twinlock_service.rabbitmq import VHOST, Node, private_node

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
GOALS = {  # ours divided by the peer's, at most
    "start to online": 0.4,
    "start to first result": 0.2,
    "memory (PSS)": 0.35,
    "warm round trip": 1.0,
    "seconds per task, queued before": 1 / 2.5,
    "processor seconds per 1,000 tasks": 0.4,
}


def nothing() -> None:
    """The task."""


def main() -> int:
    """Measure and print; 1 where a goal is missed."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    tasks = int(sys.argv[2]) if len(sys.argv) > 2 else 10_000
    prefix = Path(sys.executable).parent
    theirs = prefix.parent / "peer" / "bin" / "globus-compute-endpoint"
    programs = {"ours": (prefix / "twinlock-endpoint", ()), "peer": (theirs, ("_start-user-endpoint",))}
    found: dict[str, list[dict[str, float]]] = {"ours": [], "peer": []}
    with _node() as (admin, url):
        for number in range(rounds):
            for name in sorted(programs, reverse=bool(number % 2)):
                print(f"round {number + 1} of {rounds}: {name}", file=sys.stderr, flush=True)
                found[name].append(_measure(admin, url, *programs[name], tasks))
    return _tell(found)


def _tell(found: dict[str, list[dict[str, float]]]) -> int:
    missed = 0
    print(f"{'':36}{'ours':>12}{'peer':>12}{'ratio':>8}{'goal':>8}")
    for what, goal in GOALS.items():
        ours, peer = (statistics.median(one[what] for one in found[name]) for name in ("ours", "peer"))
        over = ours / peer > goal
        missed += over
        print(f"{what:36}{ours:>12,.4f}{peer:>12,.4f}{ours / peer:>8.2f}{goal:>8.2f}{'  MISSED' * over}")
    return 1 if missed else 0


@contextmanager
def _node() -> Iterator[tuple[str, str]]:
    """A private RabbitMQ: its administrator's URL, and an endpoint's."""
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


def _measure(admin: str, url: str, program: Path, words: tuple[str, ...], tasks: int) -> dict[str, float]:
    """One endpoint's life for the small figures, and another's for the queued tasks."""
    with _endpoint(admin, url, program, words, 1) as (running, queues):
        queues.heartbeat()
        online = time.monotonic() - running.started
        value(queues.result(next(iter(queues.asked)), 60))
        first = time.monotonic() - running.started
        trips = [_round_trip(queues) for _ in range(WARM)]
        time.sleep(SETTLE)
        memory = sum(process.memory_full_info().pss for process in _processes())
    with _endpoint(admin, url, program, words, tasks) as (running, queues):
        seconds, processor = _drain(queues, tasks)
    return {
        "start to online": online,
        "start to first result": first,
        "memory (PSS)": memory / 1e6,
        "warm round trip": statistics.median(trips),
        "seconds per task, queued before": seconds / tasks,
        "processor seconds per 1,000 tasks": processor / tasks * 1000,
    }


def _round_trip(queues: Queues) -> float:
    begun = time.monotonic()
    value(queues.result(queues.submit(nothing), 60))
    return time.monotonic() - begun


def _drain(queues: Queues, tasks: int) -> tuple[float, float]:
    """Seconds from the first result to the last, and the processor time of all processes from start to end."""
    begun = 0.0
    for _ in queues.raw_results(tasks, 300):
        begun = begun or time.monotonic()
    seconds = time.monotonic() - begun
    used = [process.cpu_times() for process in _processes()]
    return seconds, sum(one.user + one.system + one.children_user + one.children_system for one in used)


class Waiting(Queues):
    """Queues in which tasks wait before the endpoint starts; `asked` are their ids.

    With an exchange of their own: the peer declares it passively, which no one may do with the default exchange.
    """

    def __init__(self, admin: str, url: str, tasks: int) -> None:
        super().__init__(admin, url)
        self._channel.exchange_declare(self.endpoint_id, "direct", durable=True)
        for queue in (self.result_queue, self.heartbeat_queue):
            self._channel.queue_bind(queue, self.endpoint_id, queue)
        self.asked = [self._put() for _ in range(tasks)]

    def _destination(self, queue: str) -> dict[str, Any]:
        made = super()._destination(queue)
        made["exchange"] = made["queue_publish_kwargs"]["exchange"] = self.endpoint_id
        return made

    def _put(self) -> str:
        task = str(uuid.uuid4())
        self.publish(task_body(task, nothing), task_uuid=task)
        return task


@contextmanager
def _endpoint(
    admin: str, url: str, program: Path, words: tuple[str, ...], tasks: int
) -> Iterator[tuple[Running, Waiting]]:
    queues = Waiting(admin, url, tasks)
    home = Path(tempfile.mkdtemp(prefix="bench-home-", dir="/var/tmp"))
    name = endpoint_name(queues)
    folder = home / ".globus_compute" / name
    folder.mkdir(parents=True)  # the peer's endpoint wants it
    for path in (home, folder.parent, folder):
        os.chown(path, NOBODY, NOBODY)
    told: dict[str, Any] = {"amqp_creds": queues.creds(), "config": CONFIG, "ep_info": {"posix_ppid": os.getpid()}}
    running = run(home, queues, json.dumps(told).encode(), *words, name, program=program)
    try:
        yield running, queues
        running.signal()
        running.end(60)
    finally:
        for process in _processes():
            process.kill()
        running.process.wait(20)
        queues.close()
        shutil.rmtree(home, ignore_errors=True)


def _processes() -> list[psutil.Process]:
    """All processes of the user, but the one that keeps them together for the measurement."""
    found = [one for one in psutil.process_iter(["uids", "status"]) if one.info["uids"].real == NOBODY]
    found = [one for one in found if one.info["status"] != psutil.STATUS_ZOMBIE]
    return [process for process in found if not any("endpoint_reaper" in word for word in process.cmdline())]


if __name__ == "__main__":
    sys.exit(main())
