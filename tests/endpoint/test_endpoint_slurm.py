"""Endpoints whose workers are batch jobs of a real Slurm."""

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


def test_a_job_that_the_scheduler_refuses(endpoint: Callable[..., Running], queues: Queues, slurm: Slurm) -> None:
    running = endpoint(TEMPLATE.replace("account: abc", "partition: nosuch"), environment=slurm.environment())
    failed = queues.result(queues.submit(where), 60)
    assert "invalid partition specified: nosuch" in failed.data
    end = running.end()
    assert (end.code, end.left) == (69, [])
