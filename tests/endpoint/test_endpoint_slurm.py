"""Endpoints whose workers are batch jobs of a real Slurm, and what becomes of tasks when their jobs end early."""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from endpoint_rig import Queues, Running, until, value
from twinlock_testbed.slurm import REFUSED_ACCOUNT, Slurm, private_slurm

pytestmark = [pytest.mark.system, pytest.mark.slurm]

NODES = ("node1", "node2")
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
    """A cluster of two nodes, of which the second gets only what asks for it."""
    folder = Path(tempfile.mkdtemp(prefix="endpoint-slurm-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        with private_slurm(folder, NODES) as cluster:
            yield cluster
    finally:
        shutil.rmtree(folder, ignore_errors=True)


QUICK = """
engine:
  type: GlobusComputeEngine
  max_workers_per_node: 1
  heartbeat_period: 1
  heartbeat_threshold: 6
  max_retries_on_system_failure: {retries}
  job_status_kwargs: {{strategy_period: 1}}
  provider:
    type: SlurmProvider
    scheduler_options: "#SBATCH --nodelist={node}"
    exclusive: false
    init_blocks: {init}
    max_blocks: {most}
    walltime: "00:10:00"
"""
"""Loses workers within seconds."""


def quick(*, retries: int = 0, node: str = NODES[0], init: int = 1, most: int = 1) -> str:
    return QUICK.format(retries=retries, node=node, init=init, most=most)


def leave(running: Running, slurm: Slurm) -> None:
    """End the endpoint in order, which leaves nothing, neither here nor in Slurm's queue."""
    running.signal()
    end = running.end()
    assert (end.code, end.left) == (0, [])
    until(lambda: not slurm.jobs())


def where() -> str | None:
    import os

    return os.environ.get("SLURM_JOB_ACCOUNT")


def test_the_administrators_template(endpoint: Callable[..., Running], queues: Queues, slurm: Slurm) -> None:
    running = endpoint(TEMPLATE, environment=slurm.environment())
    assert value(queues.result(queues.submit(where), 60)) == "abc"
    assert [job.split()[1:] for job in slurm.jobs()] == [["nobody", "RUNNING"]]
    assert queues.heartbeat()["account"] == "abc"
    leave(running, slurm)


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
    running = endpoint(MPI, environment=slurm.environment())
    wanted = {"num_nodes": 1, "ranks_per_node": 2, "num_ranks": 2}
    task = queues.submit(ranks, resource_specification=json.dumps(wanted))
    assert value(queues.result(task, 60)) == ["rank 0 of 2", "rank 1 of 2"]
    wrong = queues.submit(ranks, resource_specification=json.dumps({"nodes": 1}))
    assert "nodes" in queues.result(wrong, 60).data
    assert queues.heartbeat()["engine_type"] == "GlobusMPIEngine"
    leave(running, slurm)


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
    leave(following, slurm)


def hold(path: str, *, every_time: bool = False) -> str:
    """Say in which job this runs, and stay; with `every_time` also where it is a second attempt."""
    import os
    import pathlib
    import time

    job = os.environ["SLURM_JOB_ID"]
    with pathlib.Path(path).open("a") as runs:
        runs.write(f"{job}\n")
    while every_time or len(pathlib.Path(path).read_text().split()) == 1:
        time.sleep(0.05)
    return job


def began(path: Path) -> str:
    """The job in which `hold` runs."""
    until(lambda: path.exists() and path.read_text().endswith("\n"), 60)
    return path.read_text().split()[0]


def test_a_job_that_is_cancelled_under_a_task(
    endpoint: Callable[..., Running], queues: Queues, slurm: Slurm, home: Path
) -> None:
    """The task's error has the scheduler's words; the next one runs in a new job."""
    running = endpoint(quick(), environment=slurm.environment())
    task = queues.submit(hold, str(home / "runs"), every_time=True)
    job = began(home / "runs")
    slurm.run("scancel", job)
    failed = queues.result(task, 60).data
    assert f"The batch job {job} ended as CANCELLED" in failed
    assert f"JOB {job} ON node1 CANCELLED" in failed, "Slurm's own words"
    assert value(queues.result(queues.submit(hold, str(home / "runs")), 60)) != job
    leave(running, slurm)


def test_walltime_that_is_over(endpoint: Callable[..., Running], queues: Queues, slurm: Slurm, home: Path) -> None:
    """With a retry the task ends well in the next job."""
    running = endpoint(quick(retries=1), environment=slurm.environment())
    task = queues.submit(hold, str(home / "runs"))
    job = began(home / "runs")
    slurm.run("scontrol", "update", f"JobId={job}", "TimeLimit=0")
    assert value(queues.result(task, 90)) != job
    assert "TIMEOUT" in slurm.run("scontrol", "show", "job", job)
    leave(running, slurm)


def vanish(slurm: Slurm, node: str, job: str) -> None:
    """What is left of a node whose power is cut, for everybody but this host: nothing of Slurm's or of the job."""
    slurm.nodes[node].stop()
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            variables = process.environ()
            ours = variables.get("SLURM_CONF") == str(slurm.config)
            if ours and (variables.get("SLURM_JOB_ID") == job or f"slurmstepd: [{job}." in " ".join(process.cmdline())):
                process.kill()
    slurm.run("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=gone")


def test_a_node_that_goes_away(endpoint: Callable[..., Running], queues: Queues, slurm: Slurm, home: Path) -> None:
    """Slurm puts the job back into its queue, from where the endpoint removes it when it ends."""
    running = endpoint(quick(node="node2"), environment=slurm.environment())
    task = queues.submit(hold, str(home / "runs"), every_time=True)
    job = began(home / "runs")
    vanish(slurm, "node2", job)
    assert "loss of manager" in queues.result(task, 60).data
    assert job in " ".join(slurm.jobs())
    leave(running, slurm)


def test_two_blocks_share_the_work(endpoint: Callable[..., Running], queues: Queues, slurm: Slurm, home: Path) -> None:
    """Neither task ends before both run."""
    running = endpoint(quick(init=0, most=2), environment=slurm.environment())
    tasks = [queues.submit(hold, str(home / "runs")) for _ in range(2)]
    assert len({value(queues.result(task, 90)) for task in tasks}) == 2
    leave(running, slurm)


def test_an_account_that_the_scheduler_refuses(endpoint: Callable[..., Running], queues: Queues, slurm: Slurm) -> None:
    running = endpoint(TEMPLATE.replace("abc", REFUSED_ACCOUNT), environment=slurm.environment())
    failed = queues.result(queues.submit(where), 60).data
    assert f"no hours are left on account {REFUSED_ACCOUNT}" in failed
    assert "Invalid account" in failed
    assert running.end().code == 69
