"""User endpoints under measurement: a RabbitMQ node, queues in which tasks wait, and what the processes use."""

import asyncio
import json
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psutil
from endpoint_rig import NOBODY, AgentQueues, Running, endpoint_name, run, task_body
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
LIMIT = 300.0  # seconds for anything

Body = Callable[..., bytes]
"""Returns the message of a task, given its id, its function and the arguments."""


@dataclass(frozen=True)
class Program:
    """An endpoint's program and its RabbitMQ: an administrator's URL, and an endpoint's."""

    admin: str
    url: str
    path: Path
    words: tuple[str, ...] = ()


def nothing() -> None:
    """Do nothing: the task."""


def same(text: str) -> str:
    """Return what was sent: the task with much to carry."""
    return text


@contextmanager
def node() -> Iterator[tuple[str, str]]:
    """Run a private RabbitMQ while the block runs; yield its administrator's URL and an endpoint's."""
    with tempfile.TemporaryDirectory(prefix="twinlock-bench-", dir="/var/tmp") as name:
        Path(name).chmod(0o755)
        loop = asyncio.new_event_loop()
        node_in = private_node(Path(name))
        made: Node = loop.run_until_complete(node_in.__aenter__())
        try:
            loop.run_until_complete(_user(made))
            yield str(made.url), str(made.url.with_user("endpoint").with_password("endpoint"))
        finally:
            loop.run_until_complete(node_in.__aexit__(None, None, None))


async def _user(node: Node) -> None:
    async with aiohttp.ClientSession() as session:
        await Management(session, node.management_url, VHOST).user("endpoint", "endpoint", read=".*", write=".*")


class Waiting(AgentQueues):
    """Queues in which tasks wait before the endpoint starts; `asked` are their ids."""

    def __init__(self, program: Program, tasks: int, body: Body = task_body) -> None:
        super().__init__(program.admin, program.url)
        self._body = body
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
        self.publish(self._body(task, nothing), task_uuid=task)
        return task


@contextmanager
def started(program: Program, queues: Waiting) -> Iterator[tuple[Running, Waiting]]:
    """Run an endpoint, with a home of its own, while the block runs; yield it and its queues."""
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


def memory() -> float:
    """Return the memory of all endpoints (PSS), in MB."""
    return _sum(lambda process: process.memory_full_info().pss) / 1e6


def processor_seconds() -> float:
    """Return the processor time that all endpoints have taken."""
    return _sum(lambda process: sum(process.cpu_times()[:4]))  # user and system, its own and its ended children's


def _sum(figure: Callable[[psutil.Process], float]) -> float:
    """Return the sum of a figure of all processes of the user, but the one that keeps them together.

    Processes that end meanwhile count for nothing: those of others that run beside the measurement, too.
    """
    found = [one for one in psutil.process_iter(["uids", "status"]) if one.info["uids"].real == NOBODY]
    total = 0.0
    for process in found:
        with suppress(psutil.NoSuchProcess):
            is_keeper = any("set_child_subreaper" in word for word in process.cmdline())
            if not is_keeper and process.info["status"] != psutil.STATUS_ZOMBIE:
                total += figure(process)
    return total
