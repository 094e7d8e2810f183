"""Endpoints whose workers are batch jobs of a real Slurm."""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from endpoint_rig import Queues, Running, until, value
from twinlock_testbed.slurm import Slurm, private_slurm

pytestmark = [pytest.mark.system, pytest.mark.slurm]

TEMPLATE = """
engine:
  type: GlobusComputeEngine
  provider:
    type: SlurmProvider
    account: abc
    launcher: {type: SrunLauncher}
    walltime: "00:30:00"
"""


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    """A cluster of one node."""
    folder = Path(tempfile.mkdtemp(prefix="endpoint-slurm-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        with private_slurm(folder) as cluster:
            yield cluster
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def where() -> str | None:
    import os

    return os.environ.get("SLURM_JOB_ACCOUNT")


def test_the_administrators_template(endpoint: Callable[..., Running], queues: Queues, slurm: Slurm) -> None:
    running = endpoint(TEMPLATE, environment=slurm.environment())
    assert value(queues.result(queues.submit(where), 60)) == "abc"
    assert [job.split()[1:] for job in slurm.jobs()] == [["nobody", "RUNNING"]]
    assert queues.heartbeat()["account"] == "abc"
    running.signal()
    end = running.end()
    assert (end.code, end.left) == (0, [])
    until(lambda: not slurm.jobs())


MPI = """
engine:
  type: GlobusMPIEngine
  mpi_launcher: srun
  max_workers_per_block: 1
  provider:
    type: SlurmProvider
    launcher: {type: SimpleLauncher}
    walltime: "00:30:00"
    nodes_per_block: 1
"""


def ranks() -> list[str]:
    import os
    import subprocess

    command = f"{os.environ['PARSL_MPI_PREFIX']} sh -c 'echo rank $SLURM_PROCID of $SLURM_NTASKS'"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    return sorted(done.stdout.splitlines())


def test_an_mpi_program_gets_the_ranks_that_it_asks_for(
    endpoint: Callable[..., Running], queues: Queues, slurm: Slurm
) -> None:
    endpoint(MPI, environment=slurm.environment())
    wanted = {"num_nodes": 1, "ranks_per_node": 2, "num_ranks": 2}
    task = queues.submit(ranks, resource_specification=json.dumps(wanted))
    assert value(queues.result(task, 60)) == ["rank 0 of 2", "rank 1 of 2"]
    wrong = queues.submit(ranks, resource_specification=json.dumps({"nodes": 1}))
    assert "nodes" in queues.result(wrong, 60).data
    assert queues.heartbeat()["engine_type"] == "GlobusMPIEngine"


def test_a_job_that_the_scheduler_refuses(endpoint: Callable[..., Running], queues: Queues, slurm: Slurm) -> None:
    running = endpoint(TEMPLATE.replace("account: abc", "partition: nosuch"), environment=slurm.environment())
    failed = queues.result(queues.submit(where), 60)
    assert "invalid partition specified: nosuch" in failed.data
    end = running.end()
    assert (end.code, end.left) == (69, [])


def wait_for(path: str) -> str:
    import pathlib
    import time

    pathlib.Path(path + ".began").touch()
    while not pathlib.Path(path).exists():
        time.sleep(0.05)
    return "done"


def test_the_job_of_an_endpoint_that_was_killed_is_cancelled_by_the_next(
    endpoint: Callable[..., Running], queues: Queues, slurm: Slurm, home: Path
) -> None:
    running = endpoint(TEMPLATE, environment=slurm.environment())
    task = queues.submit(wait_for, str(home / "go"))
    until((home / "go.began").exists, 60)
    (former,) = slurm.jobs()
    running.signal(9)
    running.end()
    assert slurm.jobs() == [former], "nobody has cancelled it"
    following = endpoint(TEMPLATE, environment=slurm.environment())
    assert "its process or its host died" in queues.result(task, 60).data
    assert value(queues.result(queues.submit(where), 60)) == "abc"
    until(lambda: len(slurm.jobs()) == 1 and slurm.jobs() != [former])
    following.signal()
    following.end()
    until(lambda: not slurm.jobs())
