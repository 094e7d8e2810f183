"""Whatever dies under load, every task has one outcome, and none is run twice unless retries allow it."""

import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from endpoint_rig import Queues, Running, until, value
from endpoint_tasks import double, note

pytestmark = pytest.mark.system

LOCAL = """
engine:
  type: GlobusComputeEngine
  max_workers_per_node: 2
  heartbeat_period: 1
  heartbeat_threshold: 120
  job_status_kwargs: {strategy_period: 1}
  provider: {type: LocalProvider, max_blocks: 1}
"""
TASKS = 200


def outcomes(queues: Queues, tasks: list[str], runs: Path) -> list[str]:
    """The texts of those that failed, when all have an outcome and those that didn't have run once."""
    failed = []
    for number, task in enumerate(tasks):
        result = queues.result(task)
        if result.error_details is None:
            assert value(result) == number
        else:
            failed.append(result.data)
    numbers = [int(line) for line in runs.read_text().split()]
    assert len(numbers) == len(set(numbers)), "none was run twice"
    assert len(tasks) - len(failed) <= len(numbers) <= len(tasks)
    until(lambda: not queues.waiting_tasks())
    return failed


@pytest.mark.thorough
def test_an_endpoint_that_is_killed_again_and_again(
    endpoint: Callable[..., Running], queues: Queues, home: Path
) -> None:
    tasks = [queues.submit(note, str(home / "runs"), number) for number in range(TASKS)]
    for kills in (1, 2):
        running = endpoint(LOCAL)
        queues.result(tasks[kills * random.randint(20, TASKS // 4)])
        running.signal(signal.SIGKILL)
        running.end()
    endpoint(LOCAL)
    failed = outcomes(queues, tasks, home / "runs")
    assert len(failed) <= 2 * 32, "only what an engine had"
    assert all("its process or its host died" in text for text in failed)


@pytest.mark.cases(1)
@pytest.mark.parametrize(
    ("title", "said"),
    [("interchange", "interchange ended with exit code -9"), ("worker 0", "WorkerLost")],
)
def test_a_part_of_the_engine_that_is_killed(
    endpoint: Callable[..., Running], queues: Queues, home: Path, title: str, said: str
) -> None:
    tasks = [queues.submit(note, str(home / "runs"), number) for number in range(TASKS)]
    running = endpoint(LOCAL)
    queues.result(tasks[random.randint(10, TASKS // 2)])
    running.parts(title)[0].kill()
    failed = outcomes(queues, tasks, home / "runs")
    assert all(said in text for text in failed)


def test_a_local_pool_that_is_killed_costs_what_its_workers_had_and_few_results(
    endpoint: Callable[..., Running], queues: Queues, home: Path
) -> None:
    """At once, not when its heartbeats are missed, and what waited in it runs in the next."""
    tasks = [queues.submit(note, str(home / "runs"), number) for number in range(TASKS)]
    running = endpoint(LOCAL)
    queues.result(tasks[random.randint(10, TASKS // 2)])
    running.parts("pool of block")[0].kill()
    failed = outcomes(queues, tasks, home / "runs")
    assert len(failed) <= 2 + 8, "it may have had some results together, to send"
    assert all("ManagerLost" in text for text in failed)


def change_what_is_sent(how: str) -> None:
    """Have the worker send something else than this task's result."""
    import importlib

    execute: Any = importlib.import_module("twinlock_endpoint.worker.execute")
    pack = execute.result

    def changed(task_id: str, *parts: Any, **more: Any) -> Any:
        execute.result = pack
        packed = pack(task_id, *parts, **more)
        other = packed.replace(task_id.encode(), b"22222222-0000-4000-8000-000000000001")
        return {"a number": 7, "nothing": b"", "junk": b"junk", "another's": other, "cut": packed[:40]}[how]

    execute.result = changed


def test_a_worker_that_sends_no_result_fails_its_task(endpoint: Callable[..., Running], queues: Queues) -> None:
    """The user's code runs in it, and may have changed it. No future waits for ever, and nobody else's fails."""
    endpoint(LOCAL)
    for how in ("a number", "nothing", "junk", "another's", "cut"):
        result = queues.result(queues.submit(change_what_is_sent, how))
        assert result.error_details.code == "RemoteExecutionError"
        assert result.data.startswith("The worker's result can't be read: ")
        assert value(queues.result(queues.submit(double, 21))) == 42
