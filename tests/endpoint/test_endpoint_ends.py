"""Whole endpoints on a real RabbitMQ: lost connections, broken engines, idleness, shutdown."""

import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from endpoint_rig import Broker, Queues, Running, until, value
from endpoint_tasks import double, note, wait_for
from network import Network
from twinlock_endpoint.life import endpoint as endpoint_module

pytestmark = pytest.mark.system

LOCAL = """
engine:
  type: GlobusComputeEngine
  max_workers_per_node: 1
  provider: {type: LocalProvider, max_blocks: 1}
"""
THREADS = "engine: {type: ThreadPoolEngine, max_workers: 1}\n"


def title(running: Running) -> str:
    return " ".join(psutil.Process(running.pid).cmdline()).rstrip()


def began(path: Path) -> None:
    """Wait until `wait_for` runs."""
    until(Path(f"{path}.runs").exists)


@pytest.mark.parametrize("config", [LOCAL, THREADS])
async def test_a_running_task_survives_a_lost_connection(
    endpoint: Callable[..., Running], queues: Queues, broker: Broker, home: Path, config: str
) -> None:
    endpoint(config)
    go = home / "go"
    task = queues.submit(wait_for, str(go))
    queues.heartbeat()
    began(go)
    await broker.disconnect()
    queues.heartbeat()  # the one that follows a reconnect; by then the task was delivered again or is about to be
    go.touch()
    assert value(queues.result(task)) == "done"
    assert value(queues.result(queues.submit(double, 1))) == 2
    assert Path(f"{go}.runs").read_text() == "x"
    until(lambda: not queues.waiting_tasks())


async def test_a_result_that_is_made_without_a_connection_goes_out_later(
    endpoint: Callable[..., Running], queues: Queues, broker: Broker, home: Path
) -> None:
    endpoint(THREADS)
    go = home / "go"
    task = queues.submit(wait_for, str(go))
    began(go)
    await broker.disconnect()
    go.touch()
    assert value(queues.result(task)) == "done"
    assert Path(f"{go}.runs").read_text() == "x"


@pytest.mark.thorough
async def test_no_task_is_lost_or_run_twice_when_connections_break_under_load(
    endpoint: Callable[..., Running], queues: Queues, broker: Broker, home: Path
) -> None:
    runs = home / "runs"
    tasks = [queues.submit(note, str(runs), number) for number in range(600)]
    endpoint(THREADS)
    for number in (50, 200, 350):
        queues.result(tasks[number])
        await broker.disconnect()
    assert [value(queues.result(task)) for task in tasks] == list(range(600))
    assert sorted(map(int, runs.read_text().split())) == list(range(600))


def test_a_result_without_a_queue_goes_out_when_there_is_one(endpoint: Callable[..., Running], queues: Queues) -> None:
    running = endpoint(THREADS)
    queues.heartbeat()
    queues.delete_results()
    task = queues.submit(double, 4)
    until(lambda: "found no queue" in running.log())
    queues.declare_results()
    assert value(queues.result(task)) == 8


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_a_task_that_the_shutdown_interrupts_is_answered(
    endpoint: Callable[..., Running], queues: Queues, home: Path, number: signal.Signals
) -> None:
    running = endpoint(LOCAL)
    go = home / "go"
    task = queues.submit(wait_for, str(go))
    began(go)
    running.signal(number)
    end = running.end()
    assert (end.code, end.left) == (0, [])
    assert f"The endpoint was shut down ({number.name})" in queues.result(task).data
    until(lambda: not queues.waiting_tasks())


def ignore_sigterm(folder: str) -> None:
    """Say that this runs, and don't end when asked to."""
    import os
    import pathlib
    import signal
    import time

    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    pathlib.Path(folder, f"runs.{os.getpid()}").touch()
    while True:
        time.sleep(1)


def test_many_workers_that_ignore_sigterm_delay_the_end_as_one_does(
    endpoint: Callable[..., Running], queues: Queues, home: Path
) -> None:
    running = endpoint("engine: {type: ProcessPoolEngine, max_workers: 16}\n")
    for _ in range(16):
        queues.submit(ignore_sigterm, str(home))
    until(lambda: len(list(home.glob("runs.*"))) == 16)
    running.signal()
    end = running.end()
    assert (end.code, end.left) == (0, [])
    assert "The engine did not stop" not in running.log()


def test_a_signal_while_the_engine_starts(endpoint: Callable[..., Running], queues: Queues) -> None:
    running = endpoint(LOCAL)
    until(lambda: running.parts("interchange"))
    running.signal()
    end = running.end()
    assert (end.code, end.left) == (0, [])


def test_an_idle_endpoint_says_so_and_shuts_down(endpoint: Callable[..., Running], queues: Queues) -> None:
    running = endpoint(LOCAL + "heartbeat_period: 5\nidle_heartbeats_soft: 7\n")
    usual = f"Globus Compute Endpoint ({queues.endpoint_id}, {running.name})"
    assert queues.heartbeat()["active"]
    assert title(running) == usual
    value(queues.result(queues.submit(double, 1)))
    # Half a minute, in which this process has to look once.
    until(lambda: re.fullmatch(rf"\[idle; shut down in \d+s\] {re.escape(usual)}", title(running)))
    assert queues.heartbeat(last=True)["heartbeat_period"] == 0
    end = running.end()
    assert (end.code, end.left) == (0, [])


def test_a_block_that_cannot_start_workers_ends_all_tasks_with_its_words(
    endpoint: Callable[..., Running], queues: Queues
) -> None:
    broken = LOCAL.replace("max_blocks: 1", "max_blocks: 1, worker_init: 'echo no such module: mpi; exit 3'")
    tasks = [queues.submit(double, number) for number in range(100)]
    running = endpoint(broken)
    for task in tasks:
        failed = queues.result(task)
        assert failed.error_details.code == "RemoteExecutionError"
        assert "no such module: mpi" in failed.data
    end = running.end()
    assert (end.code, end.left) == (os.EX_UNAVAILABLE, [])
    until(lambda: not queues.waiting_tasks())


@pytest.mark.thorough
def test_an_engine_that_fails_before_there_is_a_connection_ends_the_tasks_that_come_with_it(
    endpoint: Callable[..., Running], queues: Queues, broker: Broker
) -> None:
    broken = LOCAL.replace("max_blocks: 1", "max_blocks: 1, worker_init: 'echo no such module: mpi; exit 3'")
    task = queues.submit(double, 1)
    with Network(int(broker.node.url.port or 0)) as network:
        network.cut()
        running = endpoint(broken + f"amqp_port: {network.port}\n")
        until(lambda: "can't run tasks any more" in running.log())
        # _QUIET_S is how long a queue has to be quiet. Without a connection it always is.
        time.sleep(2 * endpoint_module._QUIET_S)  # noqa: SLF001
        network.mend()
        assert "no such module: mpi" in queues.result(task).data
        assert running.end().code == os.EX_UNAVAILABLE


def test_tasks_that_no_block_will_ever_take_are_told_so(endpoint: Callable[..., Running], queues: Queues) -> None:
    never = LOCAL.replace("max_blocks: 1", "init_blocks: 0, max_blocks: 1").replace(
        "  provider", "  strategy: none\n  provider"
    )
    task = queues.submit(double, 1)
    running = endpoint(never)
    assert "the configuration asks for no more blocks (strategy: none, init_blocks: 0" in queues.result(task).data
    assert running.end().code == os.EX_UNAVAILABLE


def test_an_interchange_that_dies_ends_all_tasks(endpoint: Callable[..., Running], queues: Queues, home: Path) -> None:
    running = endpoint(LOCAL)
    go = home / "go"
    task = queues.submit(wait_for, str(go))
    began(go)
    for interchange in running.parts("interchange"):
        interchange.kill()
    assert "interchange ended with exit code -9" in queues.result(task).data
    end = running.end()
    assert (end.code, end.left) == (os.EX_UNAVAILABLE, [])
