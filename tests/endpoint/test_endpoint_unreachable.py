"""Tasks for a pool of workers that is gone before anybody noticed: they never began, so they run elsewhere."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from endpoint_rig import Queues, Running, value
from slurm_rig import leave, quick, until
from twinlock_testbed.slurm import Slurm

pytestmark = pytest.mark.system

# Nothing but the attempt to send something tells that the pool is gone: heartbeats are missed after ten minutes only.
NEVER_MISSED = "heartbeat_threshold: 600"
SHELL = f"""
engine:
  type: GlobusComputeEngine
  max_workers_per_node: 1
  {NEVER_MISSED}
  provider: {{type: LocalProvider, max_blocks: 1, worker_init: "export MINE=set"}}
"""
FORKED = SHELL.replace(', worker_init: "export MINE=set"', "")


def note(path: str) -> int:
    """Leave a trace of each run; the worker's process."""
    import os
    import pathlib

    with pathlib.Path(path).open("a") as runs:
        runs.write("x")
    return os.getpid()


def job_of_this() -> str:
    import os

    return os.environ["SLURM_JOB_ID"]


def kill_block(worker: int) -> None:
    """All processes of the block that has this worker, at once."""
    group = os.getpgid(worker)
    processes = [process for process in psutil.process_iter() if os.getpgid(process.pid) == group]
    os.killpg(group, signal.SIGKILL)
    assert psutil.wait_procs(processes, timeout=20)[1] == []


@pytest.mark.parametrize("config", [SHELL, FORKED], ids=["pool of a shell", "forked pool"])
def test_they_run_in_the_next_block(endpoint: Callable[..., Running], queues: Queues, home: Path, config: str) -> None:
    endpoint(config, environment={"TMPDIR": "/tmp"})
    first = value(queues.result(queues.submit(note, str(home / "runs")), 60))
    kill_block(first)
    tasks = [queues.submit(note, str(home / "runs")) for _ in range(3)]
    assert first not in [value(queues.result(task, 60)) for task in tasks]
    assert (home / "runs").read_text() == "xxxx"


@pytest.mark.slurm
def test_they_run_in_the_next_job(endpoint: Callable[..., Running], queues: Queues, slurm: Slurm) -> None:
    config = quick().replace("heartbeat_threshold: 6", NEVER_MISSED)
    running = endpoint(config, environment=slurm.environment())
    first = value(queues.result(queues.submit(job_of_this), 60))
    slurm.run("scancel", first)
    until(lambda: not slurm.jobs())
    assert value(queues.result(queues.submit(job_of_this), 60)) != first
    leave(running, slurm)
