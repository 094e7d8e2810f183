"""Endpoints on batch systems that can't be had here: their commands are stand-ins, which record what was asked and run
the jobs on this host."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from batch_rig import CONDOR, GRID_ENGINE, LSF, PBS, TORQUE, environment, jobs
from endpoint_rig import Queues, Running, until, value
from parsl.jobs.states import JobState
from process_trees import lives
from twinlock_endpoint.engines import parsl_types

pytestmark = pytest.mark.system

ASKED = {
    PBS: ["qsub ", "-A phys ", "-q debug ", "#PBS -l walltime=00:20:00", "select=1:ncpus=2"],
    LSF: ["bsub ", "#BSUB -W 20\n", "#BSUB -P phys", "#BSUB -q batch"],
    TORQUE: ["qsub -q debug -A phys ", "#PBS -l walltime=00:20:00", "#PBS -l nodes=1:ppn=1"],
    GRID_ENGINE: ["qsub -q all.q -terse ", "#$ -l h_rt=00:20:00"],
    CONDOR: ["condor_submit ", "RequestCpus = 2"],
}
CAREFUL = [PBS, TORQUE, GRID_ENGINE, LSF]
schedulers = pytest.mark.parametrize(
    "template", [PBS, TORQUE, GRID_ENGINE, LSF, CONDOR], ids=["PBS Pro", "Torque", "Grid Engine", "LSF", "HTCondor"]
)


careful = pytest.mark.parametrize("template", CAREFUL, ids=["PBS Pro", "Torque", "Grid Engine", "LSF"])


def double(number: int) -> int:
    return number * 2


@schedulers
def test_tasks_run_in_the_jobs_that_the_template_asks_for(
    endpoint: Callable[..., Running], queues: Queues, batch: Path, template: str
) -> None:
    running = endpoint(template, environment=environment(batch))
    assert value(queues.result(queues.submit(double, 4))) == 8
    asked = (batch / "state" / "1.job").read_text()
    assert [words for words in ASKED[template] if words not in asked] == []
    running.signal()
    end = running.end()
    assert (end.code, end.left) == (0, [])
    until(lambda: not any(map(lives, jobs(batch))))


def package() -> str:
    import twinlock_endpoint

    return twinlock_endpoint.__path__[0]


@pytest.mark.peer
def test_the_code_that_workers_need_comes_along_where_they_dont_see_the_users_home(
    endpoint: Callable[..., Running], queues: Queues, home: Path, batch: Path, peer: Path
) -> None:
    """HTCondor's hosts needn't; here they do, but nothing of the endpoint's folder is on the worker's path."""
    template = CONDOR.replace("project: phys", f"worker_init: 'export PATH={peer}:$PATH'")
    endpoint(template, environment=environment(batch))
    found = Path(value(queues.result(queues.submit(package))))
    assert found.parents[1] == home
    assert not found.is_relative_to(home / ".globus_compute")


@schedulers
def test_a_refusal_is_told_in_the_schedulers_words(
    endpoint: Callable[..., Running], queues: Queues, batch: Path, template: str
) -> None:
    (batch / "state" / "refuse").write_text("no allocation for account phys")
    running = endpoint(template, environment=environment(batch))
    assert "no allocation for account phys" in queues.result(queues.submit(double, 4)).data
    assert running.end().code == 69


@careful
def test_a_job_that_was_taken_though_its_submission_failed_is_used(
    endpoint: Callable[..., Running], queues: Queues, batch: Path, template: str
) -> None:
    (batch / "state" / "took").touch()
    running = endpoint(template, environment=environment(batch))
    assert value(queues.result(queues.submit(double, 4))) == 8
    until(lambda: "was submitted after all" in running.log())
    assert value(queues.result(queues.submit(double, 5))) == 10
    running.signal()
    end = running.end()
    assert (end.code, end.left) == (0, [])
    # One as a rule; another attempt may come before a busy host has found the first one's job.
    until(lambda: not any(map(lives, jobs(batch))))


@careful
def test_a_job_of_an_endpoint_that_was_killed_while_it_submitted_is_cancelled_by_the_next(
    endpoint: Callable[..., Running], queues: Queues, batch: Path, template: str
) -> None:
    (batch / "state" / "slow").touch()
    running = endpoint(template, environment=environment(batch))
    pid = batch / "state" / "1.pid"
    until(lambda: pid.exists() and pid.read_text())
    running.signal(9)
    (batch / "state" / "slow").unlink()
    running.end()
    [job] = jobs(batch)
    assert lives(job)
    endpoint(template.replace("init_blocks: 1", "init_blocks: 0"), environment=environment(batch))
    until(lambda: not lives(job))


@pytest.fixture
def provider(batch: Path, template: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The template's provider, whose jobs run as whoever runs the tests."""
    for name, text in environment(batch).items():
        monkeypatch.setenv(name, text)
    made = parsl_types.provider(yaml.safe_load(template)["engine"]["provider"])
    made.script_dir = str(batch / "state")
    return made


def states(provider: Any, *jobs: str) -> list[JobState]:
    return [status.state for status in provider.status(list(jobs))]


def two_jobs(provider: Any) -> list[str]:
    """Two jobs that run."""
    jobs = [provider.submit("sleep 600", 1) for _ in range(2)]
    assert states(provider, *jobs) == [JobState.RUNNING] * 2
    return jobs


def say(batch: Path, job: str, state: str) -> None:
    """Have the scheduler say this of a job."""
    (batch / "state" / f"{job.split('.')[0]}.state").write_text(state)


@careful
def test_a_job_that_the_scheduler_has_forgotten_has_ended_and_hides_no_other(provider: Any, batch: Path) -> None:
    first, second = two_jobs(provider)
    say(batch, first, "forgotten")
    assert states(provider, first, second) == [JobState.COMPLETED, JobState.RUNNING]
    say(batch, second, "forgotten")
    assert states(provider, first, second) == [JobState.COMPLETED] * 2


@careful
@pytest.mark.parametrize("code", [0, 1])
def test_an_odd_answer_changes_nothing(provider: Any, batch: Path, code: int) -> None:
    jobs = two_jobs(provider)
    (batch / "state" / "odd").write_text(str(code))
    assert states(provider, *jobs) == [JobState.RUNNING] * 2
    (batch / "state" / "odd").unlink()
    assert states(provider, *jobs) == [JobState.RUNNING] * 2


@careful
def test_a_suspended_job_has_not_ended(provider: Any, batch: Path, template: str) -> None:
    first, second = two_jobs(provider)
    say(batch, first, "S" if template == GRID_ENGINE else "H")
    assert states(provider, first, second) == [JobState.HELD, JobState.RUNNING]


def test_a_held_job_is_not_replaced_by_another_and_its_user_can_see_why(
    endpoint: Callable[..., Running], queues: Queues, batch: Path
) -> None:
    (batch / "state" / "hold").touch()
    endpoint(PBS + "heartbeat_period: 5\n", environment=environment(batch))
    task = queues.submit(double, 4)
    until((batch / "state" / "1.job").exists)
    while "held or suspended" not in (state := queues.heartbeat())["condition"]:
        assert state["total_workers"] == 0
    assert len(list((batch / "state").glob("*.job"))) == 1
    (batch / "state" / "hold").unlink()
    assert value(queues.result(task)) == 8
    assert len(list((batch / "state").glob("*.job"))) == 1
