"""Blocks come with the work and go with it, by Parsl's strategies."""

from collections.abc import Callable
from pathlib import Path

import pytest
from endpoint_rig import Queues, Running, until, value

pytestmark = pytest.mark.system

CONFIG = """
engine:
  type: GlobusComputeEngine
  max_workers_per_node: 1
  job_status_kwargs: {max_idletime: 1, strategy_period: 0.5}
  provider: {type: LocalProvider, init_blocks: 0, min_blocks: 1, max_blocks: 2}
"""
RESTLESS = """
engine:
  type: GlobusComputeEngine
  max_workers_per_node: 1
  job_status_kwargs: {max_idletime: 0, strategy_period: 0.01}
  provider: {type: LocalProvider, init_blocks: 0, min_blocks: 0, max_blocks: 1}
"""


def meet(path: str) -> int:
    """Wait until this runs a second time."""
    import os
    import pathlib
    import time

    with pathlib.Path(path).open("a") as met:
        met.write("x")
    while len(pathlib.Path(path).read_text()) < 2:
        time.sleep(0.02)
    return os.getpid()


def process() -> int:
    """The worker's."""
    import os

    return os.getpid()


def blocks(running: Running) -> int:
    """The worker pools that run."""
    return len(running.parts(" HTEX pool of block"))


def test_blocks_come_with_the_work_and_all_but_the_least_go_when_idle(
    endpoint: Callable[..., Running], queues: Queues, home: Path
) -> None:
    running = endpoint(CONFIG)
    queues.heartbeat()
    assert blocks(running) == 0
    tasks = [queues.submit(meet, str(home / "met")) for _ in range(2)]
    assert len({value(queues.result(task)) for task in tasks}) == 2, "two blocks at once, with a worker each"
    until(lambda: blocks(running) == 1)
    assert value(queues.result(queues.submit(meet, str(home / "met"))))


def test_no_task_is_lost_as_blocks_come_and_go(endpoint: Callable[..., Running], queues: Queues) -> None:
    """A block is ended as soon as it is idle, and the next task is on its way then."""
    endpoint(RESTLESS)
    processes: set[int] = set()
    for number in range(2000):  # on a busy host, nobody may look between two tasks for a while
        processes.add(value(queues.result(queues.submit(process))))
        if number >= 50 and len(processes) > 1:
            break
    assert len(processes) > 1, "more than one block was there"
