"""How long tasks wait and run, as the manager endpoint, whose place the test takes, is told it."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from endpoint_rig import Queues, Running, value
from endpoint_tasks import double, wait_for
from manager_socket import ManagerSocket, report
from twinlock_common.task_times import BOUNDS, RUN, WAIT
from twinlock_endpoint.tasks import results
from twinlock_endpoint.tasks.times import TaskTimes
from twinlock_endpoint.worker import messages

SELDOM = "heartbeat_period: 3600\n"
THREADS = f"engine: {{type: ThreadPoolEngine, max_workers: 1}}\n{SELDOM}"
PROCESSES = THREADS.replace("Thread", "Process")
FORKS = f"""
engine: {{type: GlobusComputeEngine, max_workers_per_node: 1, provider: {{type: LocalProvider, max_blocks: 1}}}}
{SELDOM}"""
PARSLS_OWN = FORKS.replace("max_blocks: 1", "max_blocks: 1, worker_init: 'true'")

HELD_S = 1.1
"""How long a task is kept from its end: longer than the bound of a bucket."""

TASK = "7b1f2f6e-0000-4000-8000-000000000007"


def total(message: dict[str, Any], name: str) -> int:
    """How many tasks are in one of the histograms of a message."""
    return sum(message["histograms"][name]["counts"])


def longer_than(message: dict[str, Any], name: str, bound: float) -> int:
    """How many of them took longer."""
    counts: list[int] = message["histograms"][name]["counts"]
    return sum(counts[BOUNDS.index(bound) + 1 :])


@pytest.mark.system
@pytest.mark.parametrize(
    "template",
    [
        pytest.param(THREADS, id="threads"),
        pytest.param(FORKS, id="forks"),
        pytest.param(PROCESSES, id="processes", marks=pytest.mark.thorough),
        pytest.param(PARSLS_OWN, id="Parsl's own pool", marks=pytest.mark.thorough),
    ],
)
def test_who_waits_for_a_task_that_runs_has_waited_and_not_run(
    endpoint: Callable[..., Running], queues: Queues, manager: ManagerSocket, home: Path, template: str
) -> None:
    endpoint(template, control=str(manager.path))
    manager.accept()
    before = time.monotonic()
    held = queues.submit(wait_for, str(home / "go"))
    report(manager, lambda figures, _: figures.get("running_tasks") == 1 and (home / "go.runs").exists())
    behind = queues.submit(double, 4)
    told = report(manager, lambda figures, _: figures.get("queued_tasks") == 1)
    assert (total(told, RUN), total(told, WAIT)) == (0, 0)
    time.sleep(HELD_S)
    (home / "go").touch()
    assert [value(queues.result(task)) for task in (held, behind)] == ["done", 8]
    told = report(manager, lambda _, message: total(message, RUN) == 2)
    passed = time.monotonic() - before
    waits, runs = told["histograms"][WAIT]["sum"], told["histograms"][RUN]["sum"]
    assert longer_than(told, RUN, 1.0) >= 1
    assert longer_than(told, WAIT, 1.0) >= 1
    assert waits >= HELD_S
    assert runs >= HELD_S
    assert waits + runs <= 2 * passed


@pytest.mark.system
def test_what_nobody_was_told_yet_is_told_at_the_end(
    endpoint: Callable[..., Running], queues: Queues, manager: ManagerSocket
) -> None:
    endpoint(THREADS, control=str(manager.path))
    manager.accept()
    assert value(queues.result(queues.submit(double, 4))) == 8
    manager.send({"type": "end", "reason": "because"})
    last = [message for message in manager.rest() if message["type"] == "figures"][-1]
    assert (total(last, RUN), total(last, WAIT)) == (1, 1)


def answered(seconds: float) -> bytes:
    """The result of a task that a worker had for so long."""
    began = 1_800_000_000 * 10**9
    states = [
        messages.transition("execution-start", "worker", began),
        messages.transition("execution-end", "worker", began + round(seconds * 1e9)),
    ]
    return messages.result(TASK, '"task_statuses":[' * 100, states, details={"os": "Linux"})


def noted(age: float, result: bytes) -> dict[str, Any]:
    """The histograms after a task that came `age` seconds ago has this result."""
    made = TaskTimes()
    made.note(time.monotonic() - age, result)
    return made.told()


@pytest.mark.parametrize(("seconds", "bucket"), [(0.02, 0), (0.1, 0), (0.11, 1), (60.0, 5), (86400.0, 10), (1e6, 11)])
def test_a_time_is_in_the_first_bucket_whose_bound_it_doesnt_exceed(seconds: float, bucket: int) -> None:
    told = noted(2e6, answered(seconds))[RUN]
    assert [number for number, count in enumerate(told["counts"]) if count] == [bucket]
    assert told["sum"] == pytest.approx(seconds)
    assert len(told["counts"]) == len(BOUNDS) + 1


@pytest.mark.parametrize(
    "result",
    [
        results.lost(TASK, [RuntimeError("its node vanished")]),
        results.not_started(TASK, "the disk is full"),
        answered(1)[:-1],
        answered(1) + b" ",
        b"",
    ],
)
def test_only_what_a_worker_has_answered_counts(result: bytes) -> None:
    told = noted(10, result)
    assert [sum(told[name]["counts"]) for name in (WAIT, RUN)] == [0, 0]


@pytest.mark.parametrize(("seconds", "run"), [(-3600, 0), (3600, 10)])
def test_a_nodes_clock_that_is_set_makes_no_time_that_cant_be(seconds: float, run: float) -> None:
    told = noted(10, answered(seconds))
    assert told[RUN]["sum"] == pytest.approx(run, abs=5)
    assert 0 <= told[WAIT]["sum"] <= 15
    assert told[RUN]["sum"] + told[WAIT]["sum"] == pytest.approx(10, abs=5)
