"""What the endpoint takes jobs of batch systems for that can't be had here: their commands are stand-ins."""

from pathlib import Path
from typing import Any

import pytest
from batch_rig import BATCH_SYSTEMS, CONDOR, GRID_ENGINE, LSF, PBS, TORQUE
from endpoint_rig import until
from parsl.jobs.states import JobState
from process_trees import lives

pytestmark = pytest.mark.system

schedulers = pytest.mark.parametrize("template", BATCH_SYSTEMS.values(), ids=BATCH_SYSTEMS)


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


@pytest.mark.cases(2)
@schedulers
def test_a_job_that_the_scheduler_has_forgotten_has_ended_and_hides_no_other(provider: Any, batch: Path) -> None:
    first, second = two_jobs(provider)
    say(batch, first, "forgotten")
    assert states(provider, first, second) == [JobState.COMPLETED, JobState.RUNNING]
    say(batch, second, "forgotten")
    assert states(provider, first, second) == [JobState.COMPLETED] * 2


@pytest.mark.cases(2)
@schedulers
@pytest.mark.parametrize("code", [0, 1])
def test_an_odd_answer_changes_nothing(provider: Any, batch: Path, code: int) -> None:
    jobs = two_jobs(provider)
    (batch / "state" / "odd").write_text(str(code))
    assert states(provider, *jobs) == [JobState.RUNNING] * 2
    (batch / "state" / "odd").unlink()
    assert states(provider, *jobs) == [JobState.RUNNING] * 2


@schedulers
def test_a_suspended_job_has_not_ended(provider: Any, batch: Path, template: str) -> None:
    first, second = two_jobs(provider)
    say(batch, first, "S" if template == GRID_ENGINE else "H")
    assert states(provider, first, second) == [JobState.HELD, JobState.RUNNING]


@pytest.mark.cases(2)
@pytest.mark.parametrize(
    ("template", "word", "state"),
    [
        (PBS, "B", JobState.RUNNING),
        (PBS, "U", JobState.HELD),
        (PBS, "M", JobState.PENDING),
        (TORQUE, "C", JobState.COMPLETED),
        (TORQUE, "E", JobState.COMPLETED),
        (TORQUE, "W", JobState.PENDING),
        (LSF, "PSUSP", JobState.HELD),
        (LSF, "UNKWN", JobState.HELD),
        (LSF, "PROV", JobState.PENDING),
        (LSF, "ZOMBI", JobState.FAILED),
        (GRID_ENGINE, "Rr", JobState.RUNNING),
        (GRID_ENGINE, "hr", JobState.RUNNING),
        (GRID_ENGINE, "Rqw", JobState.PENDING),
        (GRID_ENGINE, "hRwq", JobState.HELD),
        (GRID_ENGINE, "Rs", JobState.HELD),
        (GRID_ENGINE, "dRr", JobState.COMPLETED),
        (CONDOR, "6", JobState.RUNNING),
        (CONDOR, "7", JobState.HELD),
        (CONDOR, "3", JobState.CANCELLED),
    ],
)
def test_states_by_the_schedulers_words(provider: Any, batch: Path, word: str, state: JobState) -> None:
    (job, other) = two_jobs(provider)
    say(batch, job, word)
    assert states(provider, job, other) == [state, JobState.RUNNING]


@schedulers
def test_a_word_that_nobody_knows_changes_nothing(provider: Any, batch: Path) -> None:
    """A job in such a state would be missed, and another one made each time that somebody looks."""
    job, other = two_jobs(provider)
    say(batch, job, "9")
    assert states(provider, job, other) == [JobState.RUNNING] * 2


@schedulers
def test_what_a_site_prints_beside_the_id_is_no_job(provider: Any, batch: Path) -> None:
    (batch / "state" / "banner").write_text("Welcome (budget: 12 h)\n* 1 new message; see `news` *")
    job = provider.submit("sleep 600", 1)
    assert job.split(".")[0] == "1"
    assert states(provider, job) == [JobState.RUNNING]
    assert list(provider.resources) == [job]


@pytest.mark.parametrize("template", [GRID_ENGINE])
def test_a_job_in_an_error_state_is_taken_out_of_the_queue(provider: Any, batch: Path) -> None:
    """It would run as soon as an administrator clears the error, when nobody wants it any more."""
    job, _ = two_jobs(provider)
    say(batch, job, "Eqw")
    (ended,) = provider.status([job])
    assert (ended.state, ended.message) == (JobState.FAILED, "can't chdir to /home/me")
    process = int((batch / "state" / f"{job}.pid").read_text())
    until(lambda: not lives(process))


@pytest.mark.parametrize("template", [PBS])
@pytest.mark.parametrize("odd", ["brief", "broken"])
def test_a_pbs_without_history_or_with_broken_json(provider: Any, batch: Path, odd: str) -> None:
    (batch / "state" / odd).touch()
    job, other = two_jobs(provider)
    say(batch, job, "H")
    assert states(provider, job, other) == [JobState.HELD, JobState.RUNNING]
    say(batch, job, "forgotten")
    assert states(provider, job, other) == [JobState.COMPLETED, JobState.RUNNING]


@pytest.mark.parametrize(
    ("template", "answer"),
    [
        (PBS, '{"Jobs": {"12": {"job_state": "F"}, "123": {"job_state": "R"}}}'),
        (TORQUE, "Job ID Name User Time S Queue\n12 block me 0 C debug\n123 block me 0 R debug\n"),
    ],
)
def test_an_id_without_its_server_is_of_the_job_with_that_number(provider: Any, batch: Path, answer: str) -> None:
    (batch / "answer").write_text(answer)
    (batch / "bin" / "qstat").write_text(f"#!/bin/sh\ncat {batch}/answer\n")
    for job in ("123.server", "12.server"):
        provider.adopt(job, f"block-{job}")
    assert states(provider, "123.server", "12.server") == [JobState.RUNNING, JobState.COMPLETED]
