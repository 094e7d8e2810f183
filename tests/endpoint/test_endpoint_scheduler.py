"""A real Slurm whose commands fail for the user: what that costs (nothing), and what the user is told."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from endpoint_rig import Queues, Running, value
from globus_compute_sdk.errors import TaskExecutionFailed
from slurm_rig import Faults, began, cancel_jobs, hold, leave, quick, until, wait_for
from twinlock_testbed.slurm import Slurm

pytestmark = [pytest.mark.system, pytest.mark.slurm]

LIMIT = "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit)"
AWAY = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"


def job() -> str:
    import os

    return os.environ["SLURM_JOB_ID"]


def condition(queues: Queues, words: str) -> str:
    """What the first heartbeat that tells of this hindrance says; a job that waits is one too, for a while."""
    while words not in (said := str(queues.figures()["condition"])):
        continue
    return said


def test_a_further_block_that_is_refused_while_one_runs_costs_nothing(
    endpoint: Callable[..., Running], queues: Queues, slurm: Slurm, faults: Faults, home: Path
) -> None:
    running = endpoint(quick(most=2), environment=faults.environment(slurm))
    tasks = [queues.submit(wait_for, str(home / "go"))]
    first = began(home / "go.began")
    faults.fail(LIMIT, "sbatch")
    tasks += [queues.submit(job) for _ in range(3)]
    until(lambda: faults.count("sbatch") >= 3)
    assert LIMIT in condition(queues, "refused the last")
    (home / "go").touch()
    assert [value(queues.result(task)) for task in tasks] == [first] * 4
    leave(running, slurm)


@pytest.mark.thorough
def test_a_further_block_that_is_refused_while_one_waits_costs_nothing(
    endpoint: Callable[..., Running], queues: Queues, slurm: Slurm, faults: Faults, home: Path
) -> None:
    """Nor does it when that one runs at last."""
    running = endpoint(quick(most=2, options=" --hold"), environment=faults.environment(slurm))
    until(slurm.jobs)
    faults.fail(LIMIT, "sbatch")
    tasks = [queues.submit(wait_for, str(home / "go")), *(queues.submit(job) for _ in range(3))]
    until(lambda: faults.count("sbatch") >= 3)
    first = slurm.jobs()[0].split()[0]
    slurm.run("scontrol", "release", first)
    assert began(home / "go.began") == first
    refused = faults.count("sbatch")
    until(lambda: faults.count("sbatch") > refused)
    (home / "go").touch()
    assert [value(queues.result(task)) for task in tasks] == [first] * 4
    leave(running, slurm)


@pytest.mark.thorough
def test_a_refusal_right_after_a_block_has_worked_is_tried_again(
    endpoint: Callable[..., Running], queues: Queues, slurm: Slurm, faults: Faults, home: Path
) -> None:
    running = endpoint(quick(retries=1), environment=faults.environment(slurm))
    tasks = [queues.submit(hold, str(home / "runs")), queues.submit(job)]
    first = began(home / "runs")
    faults.fail(LIMIT, "sbatch")
    slurm.run("scancel", first)
    until(lambda: faults.count("sbatch") >= 4)
    faults.mend()
    assert all(value(queues.result(task)) != first for task in tasks)
    leave(running, slurm)


@pytest.mark.thorough
def test_new_tasks_wait_while_the_scheduler_can_not_be_reached(
    endpoint: Callable[..., Running], queues: Queues, slurm: Slurm, faults: Faults
) -> None:
    """As in a restart of its controller, when the former block was given back already."""
    running = endpoint(quick(idle=1), environment=faults.environment(slurm))
    first = value(queues.result(queues.submit(job)))
    until(lambda: not slurm.jobs())
    faults.fail(AWAY)
    tasks = [queues.submit(job) for _ in range(2)]
    until(lambda: faults.count("sbatch") >= 4)
    assert "Unable to contact slurm controller" in condition(queues, "The scheduler can't be reached")
    faults.mend()
    assert first not in [value(queues.result(task)) for task in tasks]
    leave(running, slurm)


@pytest.mark.thorough
@pytest.mark.parametrize("strategy", ["simple", "none"])
def test_the_very_first_block_waits_for_the_scheduler_too(
    endpoint: Callable[..., Running], queues: Queues, slurm: Slurm, faults: Faults, strategy: str
) -> None:
    faults.fail(AWAY)
    config = quick().replace("strategy_period: 1", f"strategy_period: 1, strategy: {strategy}")
    running = endpoint(config, environment=faults.environment(slurm))
    task = queues.submit(job)
    until(lambda: faults.count("sbatch") >= 2)
    faults.mend()
    assert value(queues.result(task))
    leave(running, slurm)


@pytest.mark.thorough
def test_first_blocks_that_were_refused_come_later(
    endpoint: Callable[..., Running], queues: Queues, slurm: Slurm, faults: Faults
) -> None:
    """Where the configuration asks for no others."""
    log = faults.bin.parent / "sbatch.failed"
    first_only = f"[ $(wc -l < {log}) = 1 ] || {{ echo '{LIMIT}' >&2; exit 1; }}"
    faults.do(first_only, "sbatch")
    config = quick(init=2, most=2).replace("strategy_period: 1", "strategy_period: 1, strategy: none")
    running = endpoint(config, environment=faults.environment(slurm))
    assert value(queues.result(queues.submit(job)))
    until(lambda: faults.count("sbatch") >= 3)
    assert len(slurm.jobs()) == 1
    faults.mend()
    until(lambda: len(slurm.jobs()) == 2)
    leave(running, slurm)


@pytest.mark.thorough
def test_a_scheduler_that_stays_away_too_long_is_told(
    endpoint: Callable[..., Running], queues: Queues, slurm: Slurm, faults: Faults
) -> None:
    faults.fail(AWAY)
    running = endpoint(quick(outage=1), environment=faults.environment(slurm))
    failed = queues.result(queues.submit(job))
    assert "The scheduler can't be reached" in failed.data
    assert "Unable to contact slurm controller" in failed.data
    assert running.end().code == 69


def cancel(slurm: Slurm, job: str) -> None:
    slurm.run("scancel", job)


def run_out(slurm: Slurm, job: str) -> None:
    slurm.run("scontrol", "update", f"JobId={job}", "TimeLimit=0")


def requeue(slurm: Slurm, job: str) -> None:
    slurm.run("scontrol", "requeuehold", job)


def suspend(slurm: Slurm, job: str) -> None:
    slurm.run("scontrol", "suspend", job)


def kill_pool(slurm: Slurm, job: str) -> None:
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # it has ended meanwhile
            in_job = process.environ().get("SLURM_JOB_ID") == job
            if in_job and "process_worker_pool.py" in " ".join(process.cmdline()):
                process.kill()


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("what", "told"),
    [
        (cancel, "ended as CANCELLED"),
        (run_out, "TimeLimit)"),
        (requeue, "is now waiting in the scheduler's queue"),
        (suspend, "is now held or suspended"),
        (kill_pool, "The batch job {job} "),
    ],
)
def test_a_task_whose_job_is_lost_is_told_what_became_of_the_job(
    endpoint: Callable[..., Running],
    queues: Queues,
    slurm: Slurm,
    home: Path,
    what: Callable[[Slurm, str], None],
    told: str,
) -> None:
    """And nothing else: the SDK adds an advice about serialization to errors whose text sounds like that."""
    running = endpoint(quick(threshold=30), environment=slurm.environment())
    task = queues.submit(hold, str(home / "runs"), every_time=True)
    lost = began(home / "runs")
    what(slurm, lost)
    failed = queues.result(task).data
    assert f"The batch job {lost} " in failed
    assert told.format(job=lost) in failed
    assert "serialization" not in str(TaskExecutionFailed(failed))
    running.signal()
    assert running.end().left == []
    cancel_jobs(slurm)


def patient() -> str:
    """A configuration whose workers stay for ten minutes when nobody answers."""
    return quick(threshold=600)


@pytest.mark.thorough
def test_a_job_that_can_not_be_cancelled_at_the_end_is_cancelled_by_the_next_endpoint(
    endpoint: Callable[..., Running], queues: Queues, slurm: Slurm, faults: Faults
) -> None:
    running = endpoint(patient(), environment=faults.environment(slurm))
    first = value(queues.result(queues.submit(job)))
    faults.fail(AWAY, "scancel")
    running.signal()
    assert running.end().code == 0
    assert [line.split()[0] for line in slurm.jobs()] == [first]
    faults.mend()
    following = endpoint(quick(init=0), environment=faults.environment(slurm))
    until(lambda: not slurm.jobs())
    leave(following, slurm)


@pytest.mark.thorough
def test_cancelling_is_tried_again_at_the_end(
    endpoint: Callable[..., Running], queues: Queues, slurm: Slurm, faults: Faults
) -> None:
    running = endpoint(quick(), environment=faults.environment(slurm))
    assert value(queues.result(queues.submit(job)))
    faults.fail(AWAY, "scancel")
    running.signal()
    until(lambda: faults.count("scancel") >= 2)
    faults.mend()
    assert running.end().code == 0
    until(lambda: not slurm.jobs())


@pytest.mark.thorough
def test_a_job_that_can_not_be_cancelled_when_idle_keeps_no_task_waiting(
    endpoint: Callable[..., Running], queues: Queues, slurm: Slurm, faults: Faults, home: Path
) -> None:
    """Its workers take no more tasks, so another job has to; and it is cancelled in the end."""
    running = endpoint(quick(idle=1), environment=faults.environment(slurm))
    task = queues.submit(wait_for, str(home / "go"))
    first = began(home / "go.began")
    faults.fail(AWAY, "scancel")  # while it isn't idle yet
    (home / "go").touch()
    assert value(queues.result(task)) == first
    until(lambda: faults.count("scancel") >= 1)
    second = value(queues.result(queues.submit(job)))
    assert second != first
    faults.mend()
    until(lambda: first not in [line.split()[0] for line in slurm.jobs()])
    leave(running, slurm)


@pytest.mark.thorough
def test_the_end_of_a_job_is_told_before_its_heartbeats_are_missed(
    endpoint: Callable[..., Running], queues: Queues, slurm: Slurm, home: Path
) -> None:
    """They would be missed after ten minutes; the scheduler is asked each minute."""
    running = endpoint(patient(), environment=slurm.environment())
    task = queues.submit(hold, str(home / "runs"), every_time=True)
    lost = began(home / "runs")
    slurm.run("scancel", "--signal=KILL", "--full", lost)
    assert f"The batch job {lost} ended as" in queues.result(task).data
    leave(running, slurm)


TAKEN = '/usr/bin/sbatch "$@" > /dev/null; echo "sbatch: error: Socket timed out on send/recv operation" >&2; exit 1'


def test_a_job_that_slurm_took_though_sbatch_failed_is_used(
    endpoint: Callable[..., Running], queues: Queues, slurm: Slurm, faults: Faults
) -> None:
    faults.do(TAKEN, "sbatch")
    running = endpoint(quick(), environment=faults.environment(slurm))
    used = value(queues.result(queues.submit(job)))
    # The only one as a rule; another attempt may come before a busy host has found the first one's job.
    assert used in [line.split()[0] for line in slurm.jobs()]
    until(lambda: "was submitted after all" in running.log())  # no other way leads to a block here
    leave(running, slurm)


@pytest.mark.thorough
def test_a_job_that_could_not_be_found_in_time_is_used_when_it_is(
    endpoint: Callable[..., Running], queues: Queues, slurm: Slurm, faults: Faults
) -> None:
    """Held until then, lest its workers come before it is found."""
    faults.do(TAKEN, "sbatch")
    faults.fail(AWAY, "squeue")
    running = endpoint(quick(options=" --hold"), environment=faults.environment(slurm))
    task = queues.submit(job)
    until(slurm.jobs)
    until(lambda: faults.count("squeue") >= 2)
    faults.fail(LIMIT, "sbatch")
    found = {line.split()[0] for line in slurm.jobs()}
    (faults.bin.parent / "squeue.fault").unlink()
    until(lambda: "was submitted after all" in running.log())
    for held in found:
        slurm.run("scontrol", "release", held)
    assert value(queues.result(task)) in found
    leave(running, slurm)


@pytest.mark.thorough
def test_a_job_of_an_endpoint_that_was_killed_while_it_submitted_is_cancelled_by_the_next(
    endpoint: Callable[..., Running], queues: Queues, slurm: Slurm, faults: Faults
) -> None:
    slow = f"while [ -e {faults.bin.parent}/sbatch.fault ]; do sleep 0.1; done"
    faults.do(f'/usr/bin/sbatch "$@"; {slow}; exit 0', "sbatch")  # or else it would submit a second one, if it lives on
    running = endpoint(quick(), environment=faults.environment(slurm))
    until(slurm.jobs)
    running.signal(9)
    faults.mend()
    running.end()
    following = endpoint(quick(init=0), environment=faults.environment(slurm))
    until(lambda: not slurm.jobs())
    leave(following, slurm)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "sbatch",
    [
        '/usr/bin/sbatch "$@" > /dev/null; exit 0',
        "/usr/bin/sbatch \"$@\" | sed 's/Submitted batch job/Stapelauftrag/'; exit 0",
        '/usr/bin/sbatch "$@" > /dev/null; echo "sbatch: error: cli_filter: post_submit failed" >&2; exit 1',
        'echo "sbatch: Warning: 3 h are left"; echo "sbatch: info" >&2; exec /usr/bin/sbatch "$@"',
    ],
    ids=["nothing", "another language", "a plugin fails", "warnings"],
)
def test_a_job_that_sbatch_is_silent_about_is_used(
    endpoint: Callable[..., Running], queues: Queues, slurm: Slurm, faults: Faults, sbatch: str
) -> None:
    faults.do(sbatch, "sbatch")
    running = endpoint(quick(), environment=faults.environment(slurm))
    first = value(queues.result(queues.submit(job)))
    assert [line.split()[0] for line in slurm.jobs()] == [first]
    assert value(queues.result(queues.submit(job))) == first
    leave(running, slurm)
