"""Endpoints whose workers are batch jobs of a real Slurm, and what becomes of tasks when their jobs end early."""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from endpoint_rig import Queues, Running, value
from slurm_rig import began, hold, leave, quick, until, wait_for
from twinlock_testbed.slurm import REFUSED_ACCOUNT, Slurm

pytestmark = [pytest.mark.system, pytest.mark.slurm]

TEMPLATE = """
engine:
  type: GlobusComputeEngine
  provider:
    type: SlurmProvider
    account: abc
    launcher: {type: SrunLauncher}
    walltime: "00:30:00"
    cmd_timeout: 60
"""


def where() -> str | None:
    import os

    return os.environ.get("SLURM_JOB_ACCOUNT")


@pytest.mark.thorough
def test_the_administrators_template(endpoint: Callable[..., Running], queues: Queues, slurm: Slurm) -> None:
    running = endpoint(TEMPLATE, environment=slurm.environment())
    assert value(queues.result(queues.submit(where))) == "abc"
    assert [job.split()[1:] for job in slurm.jobs()] == [["nobody", "RUNNING"]]
    assert queues.figures()["account"] == "abc"
    leave(running, slurm)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("options", "begins"),
    [("", "person=ada@uni.example__SBATCH_--nice_7,endpoint="), (" --comment=ours", "ours ada_uni.example")],
    ids=["ours", "the template's"],
)
def test_a_job_names_its_person(
    endpoint: Callable[..., Running], queues: Queues, slurm: Slurm, options: str, begins: str
) -> None:
    """Whatever the person is called, no option of sbatch's is made of it; a comment of the template's own wins."""
    info = {"posix_ppid": os.getpid(), "job_person": "ada@uni.example\n#SBATCH --nice=7"}
    running = endpoint(quick(options=options), environment=slurm.environment(), ep_info=info)
    value(queues.result(queues.submit(where)))  # so the job is there
    said = slurm.ask("squeue", "--noheader", "--format=%k %j").strip()
    assert said.startswith(begins)
    assert " ada_uni.example__SBATCH_--nice_7." in said
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
    cmd_timeout: 60
    nodes_per_block: 1
"""


def ranks() -> list[str]:
    import os
    import subprocess

    command = f"{os.environ['PARSL_MPI_PREFIX']} sh -c 'echo rank $SLURM_PROCID of $SLURM_NTASKS'"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    return sorted(done.stdout.splitlines())


@pytest.mark.thorough
def test_an_mpi_program_gets_the_ranks_that_it_asks_for(
    endpoint: Callable[..., Running], queues: Queues, slurm: Slurm
) -> None:
    running = endpoint(MPI, environment=slurm.environment())
    wanted = {"num_nodes": 1, "ranks_per_node": 2, "num_ranks": 2}
    task = queues.submit(ranks, resource_specification=json.dumps(wanted))
    assert value(queues.result(task)) == ["rank 0 of 2", "rank 1 of 2"]
    wrong = queues.submit(ranks, resource_specification=json.dumps({"nodes": 1}))
    assert "nodes" in queues.result(wrong).data
    large = queues.submit(ranks, resource_specification=json.dumps({"num_nodes": 2, "ranks_per_node": 1}))
    assert "the task asks for 2 nodes (num_nodes), and a block has 1" in queues.result(large).data
    again = queues.submit(ranks, resource_specification=json.dumps(wanted))
    assert value(queues.result(again)) == ["rank 0 of 2", "rank 1 of 2"]
    assert queues.figures()["engine_type"] == "GlobusMPIEngine"
    leave(running, slurm)


def test_a_job_that_the_scheduler_refuses(endpoint: Callable[..., Running], queues: Queues, slurm: Slurm) -> None:
    task = queues.submit(where)  # at once: the endpoint doesn't stay for long
    running = endpoint(TEMPLATE.replace("account: abc", "partition: nosuch"), environment=slurm.environment())
    failed = queues.result(task)
    assert "invalid partition specified: nosuch" in failed.data
    end = running.end()
    assert (end.code, end.left) == (69, [])


@pytest.mark.thorough
def test_the_job_of_an_endpoint_that_was_killed_is_cancelled_by_the_next(
    endpoint: Callable[..., Running], queues: Queues, slurm: Slurm, home: Path
) -> None:
    running = endpoint(TEMPLATE, environment=slurm.environment())
    task = queues.submit(wait_for, str(home / "go"))
    began(home / "go.began")
    (former,) = slurm.jobs()
    running.signal(9)
    running.end()
    assert slurm.jobs() == [former], "nobody has cancelled it"
    following = endpoint(TEMPLATE, environment=slurm.environment())
    assert "its process or its host died" in queues.result(task).data
    assert value(queues.result(queues.submit(where))) == "abc"
    until(lambda: len(slurm.jobs()) == 1 and slurm.jobs() != [former])
    leave(following, slurm)


@pytest.mark.thorough
def test_a_job_that_is_cancelled_under_a_task(
    endpoint: Callable[..., Running], queues: Queues, slurm: Slurm, home: Path
) -> None:
    """The task's error has the scheduler's words; the next one runs in a new job."""
    running = endpoint(quick(), environment=slurm.environment())
    task = queues.submit(hold, str(home / "runs"), every_time=True)
    job = began(home / "runs")
    slurm.run("scancel", job)
    failed = queues.result(task).data
    assert f"The batch job {job} ended as CANCELLED" in failed
    assert f"JOB {job} ON node1 CANCELLED" in failed, "Slurm's own words"
    assert value(queues.result(queues.submit(hold, str(home / "runs")))) != job
    leave(running, slurm)


@pytest.mark.thorough
def test_walltime_that_is_over(endpoint: Callable[..., Running], queues: Queues, slurm: Slurm, home: Path) -> None:
    """With a retry the task ends well in the next job."""
    running = endpoint(quick(retries=1), environment=slurm.environment())
    task = queues.submit(hold, str(home / "runs"))
    job = began(home / "runs")
    slurm.run("scontrol", "update", f"JobId={job}", "TimeLimit=0")
    assert value(queues.result(task)) != job
    assert "TIMEOUT" in slurm.ask("scontrol", "show", "job", job)
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


@pytest.mark.thorough
def test_a_node_that_goes_away(endpoint: Callable[..., Running], queues: Queues, slurm: Slurm, home: Path) -> None:
    """Slurm puts the job back into its queue, from where the endpoint removes it when it ends."""
    running = endpoint(quick(node="node2", threshold=30), environment=slurm.environment())
    task = queues.submit(hold, str(home / "runs"), every_time=True)
    job = began(home / "runs")
    vanish(slurm, "node2", job)
    assert "loss of manager" in queues.result(task).data
    assert job in " ".join(slurm.jobs())
    leave(running, slurm)


@pytest.mark.thorough
def test_two_blocks_share_the_work(endpoint: Callable[..., Running], queues: Queues, slurm: Slurm, home: Path) -> None:
    """Neither task ends before both run."""
    running = endpoint(quick(init=0, most=2), environment=slurm.environment())
    tasks = [queues.submit(hold, str(home / "runs")) for _ in range(2)]
    assert len({value(queues.result(task)) for task in tasks}) == 2
    leave(running, slurm)


def test_an_account_that_the_scheduler_refuses(endpoint: Callable[..., Running], queues: Queues, slurm: Slurm) -> None:
    task = queues.submit(where)
    running = endpoint(TEMPLATE.replace("abc", REFUSED_ACCOUNT), environment=slurm.environment())
    failed = queues.result(task).data
    assert f"no hours are left on account {REFUSED_ACCOUNT}" in failed
    assert "Invalid account" in failed
    assert running.end().code == 69
