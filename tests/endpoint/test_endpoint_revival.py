"""What becomes of the tasks of an endpoint that was killed, when the next one of its name reads the journal."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from endpoint_rig import Broker, Queues, Running, until, value
from endpoint_tasks import double, wait_for

pytestmark = pytest.mark.system

LOCAL = """
engine:
  type: GlobusComputeEngine
  max_workers_per_node: 1
  provider: {type: LocalProvider, max_blocks: 1}
"""
THREADS = "engine: {type: ThreadPoolEngine, max_workers: 1}\n"
RETRYING = "engine: {type: ThreadPoolEngine, max_workers: 1, max_retries_on_system_failure: 1}\n"


def runs(path: Path) -> str:
    """An x for each time that `wait_for` began."""
    noted = Path(f"{path}.runs")
    return noted.read_text() if noted.exists() else ""


def kill(running: Running) -> None:
    """The endpoint itself, and whatever it leaves, as the spawner does."""
    running.signal(signal.SIGKILL)
    running.end()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_task_that_had_begun_is_answered_and_those_that_waited_run(
    endpoint: Callable[..., Running], queues: Queues, home: Path, number: signal.Signals
) -> None:
    running = endpoint(LOCAL)
    go = home / "go"
    task = queues.submit(wait_for, str(go))
    waiting = [queues.submit(double, number) for number in range(3)]
    until(lambda: runs(go) and not queues.waiting_tasks())
    running.signal(number)
    assert running.end().left == []
    go.touch()
    endpoint(LOCAL)
    failed = queues.result(task)
    assert failed.error_details.code == "RemoteExecutionError"
    assert ("its process or its host died" if number is signal.SIGKILL else "shut down (SIGTERM)") in failed.data
    assert "max_retries_on_system_failure" in failed.data
    assert [value(queues.result(one)) for one in waiting] == [0, 2, 4]
    assert runs(go) == "x"
    until(lambda: not queues.waiting_tasks())


def test_a_task_is_run_again_as_often_as_retries_allow_over_all_lives(
    endpoint: Callable[..., Running], queues: Queues, home: Path
) -> None:
    go = home / "go"
    task = queues.submit(wait_for, str(go))
    for attempt in (1, 2):
        running = endpoint(RETRYING)
        until(lambda: runs(go) == "x" * attempt)  # noqa: B023
        kill(running)
    go.touch()
    endpoint(RETRYING)
    assert "Attempt 2 of 2" in queues.result(task).data
    assert runs(go) == "xx"


async def test_a_result_that_couldnt_be_delivered_is_delivered_by_the_next_endpoint(
    endpoint: Callable[..., Running], queues: Queues, home: Path, broker: Broker
) -> None:
    running = endpoint(THREADS)
    go = home / "go"
    task = queues.submit(wait_for, str(go))
    until(lambda: runs(go))
    queues.delete_results()
    go.touch()
    until(lambda: "found no queue" in running.log())
    kill(running)
    queues.declare_results()
    endpoint(THREADS)
    assert value(queues.result(task)) == "done"
    assert runs(go) == "x"


def test_another_endpoint_of_the_name_is_not_disturbed(endpoint: Callable[..., Running], queues: Queues) -> None:
    first = endpoint(THREADS)
    queues.heartbeat()
    second = endpoint(THREADS).end()
    assert second.code == 75
    assert f"Another endpoint of this name still runs (process {first.pid}" in second.said
    assert value(queues.result(queues.submit(double, 3))) == 6


def test_a_journal_of_a_newer_version_is_left_alone(endpoint: Callable[..., Running], queues: Queues) -> None:
    running = endpoint(THREADS)
    assert value(queues.result(queues.submit(double, 3))) == 6
    kill(running)
    (segment,) = (running.folder / "journal").glob("*.journal")
    newer = segment.read_bytes().replace(b"twinlock-journal 001", b"twinlock-journal 002", 1)
    segment.write_bytes(newer)
    end = endpoint(THREADS).end()
    assert end.code == 65
    assert "written by a newer version of this program (format 2, this one knows 1)" in end.said
    assert segment.read_bytes() == newer
