"""What the endpoint takes a job of a real Slurm for, whatever Slurm's commands do."""

from collections.abc import Iterator

import pytest
from parsl.jobs.states import JobState, JobStatus
from parsl.launchers import SimpleLauncher
from process_trees import lives
from slurm_rig import Faults, cancel_jobs, until
from twinlock_endpoint.htex.providers import scheduler
from twinlock_endpoint.htex.providers.slurm import SlurmProvider
from twinlock_testbed.slurm import Slurm

pytestmark = [pytest.mark.system, pytest.mark.slurm]


@pytest.fixture
def provider(slurm: Slurm, faults: Faults, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlurmProvider]:
    """A provider whose commands can be made to fail. Its jobs run as root, who writes into the folder."""
    for name, value in faults.environment(slurm).items():
        monkeypatch.setenv(name, value)
    scheduler.use_time_limits()
    made = SlurmProvider(exclusive=False, launcher=SimpleLauncher(), walltime="00:10:00", cmd_timeout=60)
    made.script_dir = str(faults.bin.parent)
    yield made
    faults.mend()
    cancel_jobs(slurm)


def state(provider: SlurmProvider, job: str) -> JobStatus:
    (found,) = provider.status([job])
    return found


def running(provider: SlurmProvider) -> str:
    """A job that runs."""
    job: str = provider.submit("sleep 600", 1)
    until(lambda: state(provider, job).state == JobState.RUNNING)
    return job


@pytest.mark.parametrize("fault", ["exit 0", "exit 1", "echo squeue: error: Unable to contact; exit 1", "echo; exit 0"])
def test_an_answer_without_the_job_changes_nothing(provider: SlurmProvider, faults: Faults, fault: str) -> None:
    job = running(provider)
    faults.do(fault, "squeue")
    assert state(provider, job).state == JobState.RUNNING
    assert faults.count("squeue") > 0
    faults.mend()
    assert state(provider, job).state == JobState.RUNNING


def test_a_command_that_hangs_is_ended_with_all_that_it_started(provider: SlurmProvider, faults: Faults) -> None:
    job = running(provider)
    asleep = faults.bin.parent / "asleep"
    faults.do(f"sleep 1111 & echo $! > {asleep}.new; mv {asleep}.new {asleep}; wait", "squeue")
    provider.cmd_timeout = 5
    while not asleep.exists():  # the shell of a busy host may take longer to get there
        provider.cmd_timeout *= 2
        assert state(provider, job).state == JobState.RUNNING
    until(lambda: not lives(int(asleep.read_text())))


def test_how_a_job_ended_is_not_forgotten_while_others_are_asked_for(provider: SlurmProvider, slurm: Slurm) -> None:
    """Parsl would take it for COMPLETED then, since it asks for it no more."""
    ended, other = running(provider), running(provider)
    slurm.run("scancel", ended)
    until(lambda: state(provider, ended).state == JobState.CANCELLED)
    assert state(provider, other).state == JobState.RUNNING
    assert state(provider, ended).state == JobState.CANCELLED


def test_a_suspended_job_is_held(provider: SlurmProvider, slurm: Slurm) -> None:
    job = running(provider)
    slurm.run("scontrol", "suspend", job)
    until(lambda: state(provider, job).state == JobState.HELD)
    slurm.run("scontrol", "resume", job)
    until(lambda: state(provider, job).state == JobState.RUNNING)


def test_why_a_job_waits_is_told(provider: SlurmProvider) -> None:
    provider.scheduler_options += "#SBATCH --hold\n"
    job = provider.submit("true", 1)
    until(lambda: "JobHeldUser" in (state(provider, job).message or ""))
    assert state(provider, job).state == JobState.PENDING


def test_a_job_that_slurm_has_forgotten_has_ended(provider: SlurmProvider, faults: Faults) -> None:
    job = running(provider)
    faults.do("echo slurm_load_jobs error: Invalid job id specified >&2; exit 1", "squeue")
    assert state(provider, job).terminal


@pytest.mark.parametrize(
    ("command", "state", "details"),
    [
        ("exit 137", JobState.FAILED, ["exit code 137"]),
        ("kill -9 $$", JobState.FAILED, ["signal 9"]),
        ("true", JobState.COMPLETED, []),
    ],
)
def test_how_a_job_ended_is_told(provider: SlurmProvider, command: str, state: JobState, details: list[str]) -> None:
    job = provider.submit(command, 1)
    until(lambda: provider.status([job])[0].terminal)
    (ended,) = provider.status([job])
    assert ended.state == state
    assert [detail for detail in details if detail not in (ended.message or "")] == []


@pytest.mark.cases(3)
@pytest.mark.parametrize(
    ("code", "state"),
    [
        ("SE", JobState.HELD),
        ("SO", JobState.RUNNING),
        ("RQ", JobState.PENDING),
        ("NF", JobState.FAILED),
        ("PR", JobState.TIMEOUT),
        ("OOM", JobState.FAILED),
        ("BF", JobState.FAILED),
        ("DL", JobState.TIMEOUT),
        ("RV", JobState.FAILED),
        ("XY", JobState.RUNNING),
        ("C", JobState.RUNNING),
    ],
)
def test_states_by_slurms_codes(provider: SlurmProvider, faults: Faults, code: str, state: JobState) -> None:
    """One that nobody knows, or that is cut off, changes nothing."""
    job = running(provider)
    faults.do(f"echo {job} {code} None; exit 0", "squeue")
    (found,) = provider.status([job])
    assert found.state == state


def test_an_array_lives_as_long_as_one_of_its_parts(provider: SlurmProvider, slurm: Slurm) -> None:
    provider.scheduler_options += "#SBATCH --array=0-1\n"
    job = running(provider)
    slurm.run("scancel", f"{job}_0")
    until(lambda: "CANCELLED" in slurm.ask("scontrol", "show", "job", f"{job}_0"))
    assert state(provider, job).state == JobState.RUNNING
    slurm.run("scancel", job)
    until(lambda: state(provider, job).terminal)


def test_a_waiting_job_has_a_reason_where_sacct_tells_the_states(
    slurm: Slurm, faults: Faults, provider: SlurmProvider
) -> None:
    """As on every cluster that has accounting, whose database doesn't know the reason."""
    faults.do("exec /usr/bin/squeue --all --noheader --states=all --format='%i %T'", "sacct")
    made = SlurmProvider(exclusive=False, walltime="00:10:00", scheduler_options="#SBATCH --hold", cmd_timeout=60)
    made.script_dir = provider.script_dir
    job = made.submit("true", 1)
    until(lambda: "JobHeldUser" in (state(made, job).message or ""))
    assert state(made, job).state == JobState.PENDING
    slurm.run("scancel", job)
    until(lambda: state(made, job).state == JobState.CANCELLED)
