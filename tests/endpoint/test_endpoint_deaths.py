"""Functions that end in unusual ways: the user is told how, and the next task runs."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from endpoint_rig import Queues, Running, until, value

pytestmark = pytest.mark.system

LOCAL = """
engine:
  type: GlobusComputeEngine
  max_workers_per_node: 1
  provider: {type: LocalProvider, max_blocks: 1}
"""
PROCESSES = "engine: {type: ProcessPoolEngine, max_workers: 1}\n"
WITH_PROCESSES = {"forked": LOCAL, "processes": PROCESSES}
ENGINES = {
    **WITH_PROCESSES,
    "programs": LOCAL.replace("max_blocks: 1}", "max_blocks: 1, worker_init: 'true'}"),
    "threads": "engine: {type: ThreadPoolEngine, max_workers: 1}\n",
}
RAISED = ["asyncio.CancelledError", "KeyboardInterrupt", "GeneratorExit", "SystemExit", "OwnError"]


def raise_one(name: str) -> None:
    import asyncio

    class OwnError(BaseException):
        pass

    raise eval(name, {"asyncio": asyncio, "OwnError": OwnError})("the reason")


def process() -> int:
    import os

    return os.getpid()


def wait_for_ever(marker: str) -> None:
    import pathlib
    import time

    pathlib.Path(marker).touch()
    time.sleep(10_000)


def leave(code: int) -> None:
    import os

    os._exit(code)


def kill(number: int) -> None:
    import os

    os.kill(os.getpid(), number)


def kill_group(number: int) -> None:
    import os

    os.kill(0, number)


def fault() -> None:
    import ctypes

    ctypes.string_at(0)


def leave_a_child(seconds: float) -> None:
    import os
    import time

    if os.fork() == 0:
        time.sleep(seconds)
    os._exit(7)


def come_back_twice(how: str) -> None:
    import os

    os.fork()
    if how == "raise":
        raise ValueError(how)


def write_into_all_pipes(text: str) -> None:
    import contextlib
    import os
    import time

    for descriptor in range(3, 1000):
        with contextlib.suppress(OSError):
            os.set_blocking(descriptor, False)
            os.write(descriptor, text.encode())
    time.sleep(10_000)


def leave_a_thread() -> None:
    import threading

    threading.Thread(target=threading.Event().wait).start()


def close_and_wait() -> None:
    import os
    import time

    os.closerange(3, 10_000)
    time.sleep(10_000)


@pytest.mark.cases(1)
@pytest.mark.parametrize("engine", ENGINES)
def test_whatever_a_function_raises_is_its_error_and_the_worker_lives(
    endpoint: Callable[..., Running], queues: Queues, engine: str
) -> None:
    endpoint(ENGINES[engine])
    before = value(queues.result(queues.submit(process)))
    for name in RAISED:
        result = queues.result(queues.submit(raise_one, name))
        first, *_, last = result.data.splitlines()
        assert first == "Traceback (most recent call last):"
        assert "in raise_one" in result.data
        assert last.endswith(f"{name.rpartition('.')[2]}: the reason")
        assert result.error_details.code == "RemoteExecutionError"
    assert value(queues.result(queues.submit(process))) == before


@pytest.mark.cases(1)
@pytest.mark.parametrize("how", ["return", "raise"])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_function_that_forks_and_comes_back_twice(
    endpoint: Callable[..., Running], queues: Queues, engine: str, how: str
) -> None:
    """The copy ends there: as a second worker it would take what is meant for the first."""
    endpoint(ENGINES[engine])
    before = value(queues.result(queues.submit(process)))
    for _ in range(2):
        result = queues.result(queues.submit(come_back_twice, how))
        assert ("ValueError: raise" in result.data) == (how == "raise")
    assert [value(queues.result(queues.submit(process))) for _ in range(5)] == [before] * 5


@pytest.mark.cases(1)
@pytest.mark.parametrize("text", ["nonsense", "\0" * 64, "\0\0\1\0", "\0"])
def test_a_function_that_writes_into_its_workers_pipe(
    endpoint: Callable[..., Running], queues: Queues, text: str
) -> None:
    """The pool neither waits for the rest of what was no result nor takes it for one."""
    endpoint(LOCAL.replace("max_workers_per_node: 1", "max_workers_per_node: 2"))
    assert "was killed" in queues.result(queues.submit(write_into_all_pipes, text)).data
    value(queues.result(queues.submit(process)))


@pytest.mark.cases(1)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_running_task_does_not_keep_the_endpoint_from_ending(
    endpoint: Callable[..., Running], queues: Queues, home: Path, engine: str
) -> None:
    running = endpoint(ENGINES[engine])
    queues.submit(wait_for_ever, str(home / "runs"))
    until((home / "runs").exists)
    running.signal()
    end = running.end()
    assert (end.code, end.left) == (0, [])


def test_no_process_of_a_pool_outlives_an_endpoint_that_is_killed(
    endpoint: Callable[..., Running], queues: Queues, home: Path
) -> None:
    """Neither one with a task nor one without, nor the server that they were forked from."""
    running = endpoint(PROCESSES.replace("max_workers: 1", "max_workers: 2"))
    queues.submit(wait_for_ever, str(home / "runs"))
    value(queues.result(queues.submit(process)))
    until((home / "runs").exists)
    running.signal(signal.SIGKILL)
    end = running.end()
    assert (end.code, end.left) == (-signal.SIGKILL, [])


@pytest.mark.parametrize(("engine", "lost"), [("forked", "loss of manager"), ("processes", "killed by SIGTERM")])
def test_a_function_that_ends_its_process_group(
    endpoint: Callable[..., Running], queues: Queues, engine: str, lost: str
) -> None:
    """As shell scripts do that end with `kill 0`; the endpoint isn't in that group."""
    running = endpoint(WITH_PROCESSES[engine])
    assert lost in queues.result(queues.submit(kill_group, signal.SIGTERM)).data
    assert value(queues.result(queues.submit(process)))
    assert running.process.poll() is None


@pytest.mark.cases(2)
@pytest.mark.parametrize("engine", WITH_PROCESSES)
@pytest.mark.parametrize(
    ("function", "arguments", "said"),
    [
        (leave, [7], "ended with exit code 7"),
        (leave, [0], "ended with exit code 0"),
        (kill, [signal.SIGKILL], "was killed by SIGKILL"),
        (kill, [signal.SIGRTMIN + 1], f"was killed by signal {signal.SIGRTMIN + 1}"),
        (fault, [], "was killed by SIGSEGV"),
        (leave_a_child, [3000], "ended with exit code 7"),
    ],
)
def test_the_end_of_a_worker_is_told(
    endpoint: Callable[..., Running],
    queues: Queues,
    engine: str,
    function: Callable[..., None],
    arguments: list[float],
    said: str,
) -> None:
    endpoint(WITH_PROCESSES[engine])
    assert said in queues.result(queues.submit(function, *arguments)).data
    assert value(queues.result(queues.submit(process)))


def test_a_worker_that_closes_its_connection_does_not_stop_the_pool(
    endpoint: Callable[..., Running], queues: Queues
) -> None:
    endpoint(LOCAL)
    lost = queues.result(queues.submit(close_and_wait))
    assert "was killed, since it had closed or misused its connection" in lost.data
    assert value(queues.result(queues.submit(process)))


def test_a_process_that_has_done_its_tasks_waits_for_no_thread(
    endpoint: Callable[..., Running], queues: Queues
) -> None:
    """Nor does its pool wait for the process."""
    endpoint(PROCESSES.replace("max_workers: 1", "max_workers: 1, max_tasks_per_child: 1"))
    value(queues.result(queues.submit(leave_a_thread)))
    assert value(queues.result(queues.submit(process)))
