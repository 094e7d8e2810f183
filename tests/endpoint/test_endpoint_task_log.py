"""What the endpoint's folder says of what happened: the request, the blocks, and the tasks that have ended."""

import asyncio
import errno
import logging
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from endpoint_rig import Queues, Running, value
from endpoint_tasks import double
from parsl.jobs.states import JobState, JobStatus
from parsl.providers import LocalProvider, SlurmProvider
from twinlock_endpoint.htex.block_log import BlockLog
from twinlock_endpoint.tasks import task_log
from twinlock_endpoint.tasks.entry import Entry
from twinlock_endpoint.tasks.task_log import TaskLog
from twinlock_endpoint.worker import messages

THREADS = "engine: {type: ThreadPoolEngine, max_workers: 1}\n"
FORKS = """
engine: {type: GlobusComputeEngine, max_workers_per_node: 1, provider: {type: LocalProvider, max_blocks: 1}}
"""
TASK = "7b1f2f6e-0000-4000-8000-000000000007"
LIMIT_S = 60.0


def fail() -> None:
    """A function that fails."""
    raise ValueError("task=forged\noutcome=success")


def pairs(line: str) -> dict[str, str]:
    """The pairs of a line."""
    return dict(word.split("=", 1) for word in line.split(" "))


@pytest.mark.system
@pytest.mark.parametrize(
    "config", [pytest.param(FORKS, id="forks"), pytest.param(THREADS, id="threads", marks=pytest.mark.thorough)]
)
def test_the_request_and_the_tasks_of_an_endpoint(
    endpoint: Callable[..., Running], queues: Queues, config: str
) -> None:
    running = endpoint(config, ep_info={"posix_ppid": 17, "twinlock_request": "3f9a1c07"})
    before = time.time()
    good, bad = queues.submit(double, 1), queues.submit(fail)
    assert value(queues.result(good)) == 2
    assert queues.result(bad).error_details is not None
    assert "twinlock_request" not in queues.figures()
    running.signal()
    assert running.end().code == 0
    first = running.log().splitlines()[0]
    assert first.endswith(f"Started for the request 3f9a1c07, process {running.pid}")
    if config == FORKS:
        assert re.search(r"Block 0 is the process \d+", running.log())
    path = running.folder / "tasks.log"
    assert path.stat().st_mode & 0o777 == 0o600
    lines = {line["task"]: line for line in map(pairs, path.read_text().splitlines())}
    assert lines.keys() == {good, bad}
    assert (lines[good]["outcome"], lines[bad]["outcome"]) == ("success", "RemoteExecutionError")
    assert re.fullmatch(rf"{re.escape(os.uname().nodename)}:\d+", lines[good]["worker"])
    times = [lines[good][name] for name in ("accepted", "start", "end")]
    assert times == sorted(times)
    assert times[0] >= time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(before - 1))


@pytest.mark.system
def test_an_older_manager_endpoint_names_no_request(endpoint: Callable[..., Running], queues: Queues) -> None:
    running = endpoint(THREADS)
    queues.heartbeat()
    assert "Started for the request (unknown), process" in running.log()
    running.signal()
    assert running.end().code == 0


def result(number: int = 0) -> bytes:
    """A result of the endpoint's own."""
    states = [messages.transition("execution-end", "interchange", time.time_ns())]
    return messages.result(TASK, str(number), states, error=("ManagerLost", "it was lost"))


async def written(path: Path) -> str:
    """What the file has, as soon as it has something."""
    async with asyncio.timeout(LIMIT_S):
        while not (path.exists() and path.stat().st_size):
            await asyncio.sleep(0.02)
    return path.read_text()


async def test_lines_are_written_without_an_end_of_the_endpoint(tmp_path: Path) -> None:
    made = TaskLog(tmp_path / "tasks.log")
    made.note(Entry(TASK, None), result())
    assert pairs((await written(tmp_path / "tasks.log")).strip())["task"] == TASK
    made.note(Entry(TASK, None), result())
    await made.close(LIMIT_S)
    assert len((tmp_path / "tasks.log").read_text().splitlines()) == 2


async def test_a_long_file_is_moved_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_log, "MAX_BYTES", 100)
    for _ in range(3):
        made = TaskLog(tmp_path / "tasks.log")
        made.note(Entry(TASK, None), result())
        await made.close(LIMIT_S)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tasks.log", "tasks.log.1"]
    assert all(len(path.read_text().splitlines()) == 1 for path in tmp_path.iterdir())


async def test_a_full_disk_is_said_once_and_holds_up_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "gone" / "tasks.log"
    made = TaskLog(path)
    monkeypatch.setattr(task_log, "_PERIOD_S", 0.01)
    for number in range(3):
        made.note(Entry(TASK, None), result(number))
        await made.close(LIMIT_S)
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        f"tasks.log can't be written, which holds up no task: [Errno 2] {os.strerror(errno.ENOENT)}: '{path}'"
    ]
    path.parent.mkdir()
    made.note(Entry(TASK, None), result())
    await made.close(LIMIT_S)
    assert len(path.read_text().splitlines()) == 1


async def test_what_a_disk_that_hangs_gets_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_log, "_MOST", 10)
    made = TaskLog(tmp_path / "tasks.log")
    for number in range(50):
        made.note(Entry(TASK, None), result(number))
    await made.close(LIMIT_S)
    assert len((tmp_path / "tasks.log").read_text().splitlines()) == 10


class Blocks:
    """What the log of blocks asks of an executor: the jobs by their blocks, and the provider."""

    blocks_to_job_id: dict[str, Any]

    def __init__(self, provider: Any, jobs: dict[str, Any]) -> None:
        self.provider = provider
        self.blocks_to_job_id = jobs


def test_each_block_is_named_with_its_job_and_how_that_ended(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    slurm, made = SlurmProvider(), BlockLog()
    made.begin(slurm, "0", "77")
    made.begin(LocalProvider(), "1", 4242)
    executor = Blocks(slurm, {"0": "77"})
    for state in (JobState.RUNNING, JobState.TIMEOUT, JobState.TIMEOUT):
        made.end(executor, {"0": JobStatus(state)})
    assert [record.getMessage() for record in caplog.records] == [
        "Block 0 is the batch job 77",
        "Block 1 is the process 4242",
        "Block 0: The batch job 77 ended as TIMEOUT",
    ]


async def test_a_function_makes_no_line_of_its_own(tmp_path: Path) -> None:
    """Neither by what it returns, nor by the names that a task comes with."""
    made = TaskLog(tmp_path / "tasks.log")
    entry = Entry(TASK, None)
    entry.function_id = "x outcome=success\ntask=forged"
    forged = '"worker":"a b","endpoint_id":"x"},"error_details":{"code":"no"' * 20
    states = [messages.transition("execution-end", "worker", time.time_ns())]
    made.note(entry, messages.result(TASK, forged, states, error=("a b\nc", forged)))
    await made.close(LIMIT_S)
    (line,) = (tmp_path / "tasks.log").read_text().splitlines()
    assert pairs(line)["task"] == TASK
    assert pairs(line)["worker"] == "-"
    assert len(pairs(line)) == 7
