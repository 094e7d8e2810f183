"""A node that is gone without a word, by a power failure or a firewall: neither end of its connection is told."""

from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from endpoint_rig import Queues, Running, until, value
from network import Network
from parsl.executors.high_throughput.executor import DEFAULT_LAUNCH_CMD
from service_rig import free_port

pytestmark = pytest.mark.system

THRESHOLD_S = 30  # else pools are lost that only had to wait for their turn


def config(port: int, network: Network) -> str:
    """Workers that connect to the interchange, which listens on this port, through the network."""
    command = DEFAULT_LAUNCH_CMD.replace("{worker_port}", str(network.port))
    return f"""
engine:
  type: GlobusComputeEngine
  max_workers_per_node: 1
  worker_port: {port}
  launch_cmd: "{command}"
  heartbeat_period: 1
  heartbeat_threshold: {THRESHOLD_S}
  provider: {{type: LocalProvider, max_blocks: 1}}
"""


def run_until_there(mine: str, other: str) -> int:
    """Tell the worker's pid, and wait for another file."""
    import os
    import pathlib
    import time

    pathlib.Path(mine).write_text(str(os.getpid()))
    while not pathlib.Path(other).exists():
        time.sleep(0.05)
    return os.getpid()


@pytest.mark.thorough
def test_both_sides_learn_of_it(endpoint: Callable[..., Running], queues: Queues, home: Path) -> None:
    """The task's user by an error, the workers by silence, which end then; the next task gets other workers."""
    port = free_port()
    with Network(port) as network:
        endpoint(config(port, network), environment={"TMPDIR": "/tmp"})
        task = queues.submit(run_until_there, str(home / "pid"), str(home / "never"))
        until(lambda: (home / "pid").exists() and (home / "pid").read_text())
        worker = psutil.Process(int((home / "pid").read_text()))
        network.cut()
        assert "loss of manager" in queues.result(task).data
        until(lambda: not worker.is_running())
        network.mend()
        next_one = queues.submit(run_until_there, str(home / "again"), str(home / "pid"))
        assert value(queues.result(next_one)) != worker.pid
