"""A connection between interchange and worker pool that is reset amid a message: nothing is lost with it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from endpoint_rig import Queues, Running, until, value
from parsl.executors.high_throughput.executor import DEFAULT_LAUNCH_CMD
from resets import Firewall
from service_rig import free_port

pytestmark = pytest.mark.system

LARGE = 4_000_000
"""Bytes of an argument or a result."""
MIDDLE = LARGE // 2


def config(port: int, firewall: Firewall) -> str:
    """Two workers that connect to the interchange, which listens on this port, through the firewall."""
    command = DEFAULT_LAUNCH_CMD.replace("{worker_port}", str(firewall.port))
    return f"""
engine:
  type: GlobusComputeEngine
  max_workers_per_node: 2
  worker_port: {port}
  launch_cmd: "{command}"
  heartbeat_period: 1
  heartbeat_threshold: 120
  provider: {{type: LocalProvider, max_blocks: 1}}
"""


def note(path: str, data: bytes, size: int, last: str = "") -> tuple[int, bytes]:
    """Leave a trace of each run, and wait for the last file; how much data came, and as much as is wanted."""
    import pathlib
    import time

    with pathlib.Path(path).open("a") as runs:
        runs.write("x")
    while last and not pathlib.Path(last).exists():
        time.sleep(0.05)
    return len(data), bytes(size)


@pytest.mark.cases(1)
@pytest.mark.parametrize("tells_both", [True, False], ids=["both are told", "the pool is told"])
@pytest.mark.parametrize(("sent", "returned"), [(LARGE, 0), (0, LARGE)], ids=["a task", "a result"])
def test_what_is_under_way_comes_all_the_same_and_runs_once(
    endpoint: Callable[..., Running], queues: Queues, home: Path, sent: int, returned: int, tells_both: bool
) -> None:
    """Beside a task that runs, which nothing happens to."""
    port = free_port()
    with Firewall(port, tells_both=tells_both) as firewall:
        endpoint(config(port, firewall), environment={"TMPDIR": "/tmp"})
        beside = queues.submit(note, str(home / "beside"), b"", 0, str(home / "last"))
        until((home / "beside").exists)
        firewall.forget_after(MIDDLE)
        task = queues.submit(note, str(home / "runs"), bytes(sent), returned)
        until(firewall.forgot.is_set)
        assert value(queues.result(task)) == (sent, bytes(returned))
        (home / "last").touch()
        assert value(queues.result(beside)) == (0, b"")
        assert (home / "runs").read_text() + (home / "beside").read_text() == "xx", "each ran once"


@pytest.mark.thorough
def test_whatever_is_under_way_each_task_runs_once(
    endpoint: Callable[..., Running], queues: Queues, home: Path
) -> None:
    """Tasks, results, heartbeats and their answers, over one connection after the other."""
    port = free_port()
    size = LARGE // 4
    with Firewall(port, tells_both=True) as firewall:
        endpoint(config(port, firewall), environment={"TMPDIR": "/tmp"})
        tasks = []
        for reset in range(4):
            firewall.forget_after(MIDDLE)
            tasks += [queues.submit(note, str(home / f"{reset}-{task}"), bytes(size), size) for task in range(4)]
            until(firewall.forgot.is_set)
        assert all(value(queues.result(task)) == (size, bytes(size)) for task in tasks)
        assert {(home / f"{reset}-{task}").read_text() for reset in range(4) for task in range(4)} == {"x"}
