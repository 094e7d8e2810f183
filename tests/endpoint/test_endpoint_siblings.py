"""What a function does to its worker, or to the pool of workers, is no matter of the tasks beside it and after it."""

from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from endpoint_rig import Queues, Running, until, value
from endpoint_tasks import double, wait_for

pytestmark = pytest.mark.system

LOCAL = """
engine:
  type: GlobusComputeEngine
  max_workers_per_node: 2
  provider: {type: LocalProvider, max_blocks: 1}
"""
ONE = LOCAL.replace("max_workers_per_node: 2", "max_workers_per_node: 1")
# With as much patience as a pool needs on a busy host.
IMPATIENT = LOCAL.replace("provider:", "heartbeat_period: 1\n  heartbeat_threshold: 30\n  provider:")


def lose_all_files(other: str) -> None:
    import os
    import pathlib
    import sys
    import time

    while not pathlib.Path(other).exists():
        time.sleep(0.01)
    sys.stdout = sys.stderr = None
    os.closerange(3, 10_000)


def leave_no_process(other: str) -> None:
    import os
    import pathlib
    import resource
    import time

    while not pathlib.Path(other).exists():
        time.sleep(0.01)
    resource.prlimit(os.getppid(), resource.RLIMIT_NPROC, (0, 0))
    os._exit(3)


def remove_logs() -> None:
    import os
    import pathlib
    import shutil

    for block in (pathlib.Path.home() / ".globus_compute").glob("*/*/block-*"):
        shutil.rmtree(block)
    os._exit(4)


def stop_pool() -> None:
    import os
    import signal

    os.kill(os.getppid(), signal.SIGSTOP)


def be_stopped_later(when: str) -> None:
    """As soon as there is a file of this name."""
    import subprocess

    subprocess.Popen(["sh", "-c", f"while [ ! -e {when} ]; do sleep 0.1; done; kill -STOP $PPID"])


@pytest.mark.parametrize("function", [lose_all_files, leave_no_process])
def test_a_worker_that_dies_takes_no_other_along(
    endpoint: Callable[..., Running], queues: Queues, home: Path, function: Callable[..., None]
) -> None:
    endpoint(LOCAL)
    go = home / "go"
    lost = queues.submit(function, f"{go}.runs")
    other = queues.submit(wait_for, str(go))
    assert "loss of worker" in queues.result(lost).data
    go.touch()
    assert value(queues.result(other)) == "done"
    assert [value(queues.result(queues.submit(double, number))) for number in range(3)] == [0, 2, 4]


def test_a_worker_needs_no_log(endpoint: Callable[..., Running], queues: Queues) -> None:
    endpoint(ONE)
    assert "exit code 4" in queues.result(queues.submit(remove_logs)).data
    assert value(queues.result(queues.submit(double, 21))) == 42


def test_a_pool_that_was_stopped_makes_room_for_another(endpoint: Callable[..., Running], queues: Queues) -> None:
    endpoint(IMPATIENT)
    assert "loss of manager" in queues.result(queues.submit(stop_pool)).data
    assert value(queues.result(queues.submit(double, 21))) == 42


def test_an_idle_worker_that_was_stopped_goes_on(endpoint: Callable[..., Running], queues: Queues, home: Path) -> None:
    running = endpoint(ONE)
    value(queues.result(queues.submit(be_stopped_later, str(home / "idle"))))
    (home / "idle").touch()
    until(lambda: [one.status() for one in running.parts("HTEX worker")] == [psutil.STATUS_STOPPED])
    assert value(queues.result(queues.submit(double, 21))) == 42
