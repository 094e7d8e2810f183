"""Endpoints on batch systems that aren't available here.

Their commands are stand-ins, which record what was asked and run the jobs on this host.
"""

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from batch_rig import BATCH_SYSTEMS, CONDOR, GRID_ENGINE, LSF, PBS, TORQUE, environment, jobs
from endpoint_rig import Queues, Running, until, value
from process_trees import lives

pytestmark = pytest.mark.system

ASKED = {
    PBS: ["qsub ", "-A phys ", "-q debug ", "#PBS -l walltime=00:20:00", "select=1:ncpus=2"],
    LSF: ["bsub ", "#BSUB -W 20\n", "#BSUB -P phys", "#BSUB -q batch"],
    TORQUE: ["qsub -q debug -A phys ", "#PBS -l walltime=00:20:00", "#PBS -l nodes=1:ppn=1"],
    GRID_ENGINE: ["qsub -q all.q -terse ", "#$ -l h_rt=00:20:00"],
    CONDOR: ["condor_submit ", "RequestCpus = 2"],
}
schedulers = pytest.mark.parametrize("template", BATCH_SYSTEMS.values(), ids=BATCH_SYSTEMS)


def double(number: int) -> int:
    return number * 2


HOSTILE = "ada@uni.example\n#PBS -u root\n$(touch /tmp/x)"


@pytest.mark.cases(1)
@schedulers
def test_tasks_run_in_the_jobs_that_the_template_asks_for(
    endpoint: Callable[..., Running], queues: Queues, batch: Path, template: str
) -> None:
    info = {"posix_ppid": os.getpid(), "job_person": HOSTILE}
    running = endpoint(template, environment=environment(batch), ep_info=info)
    assert value(queues.result(queues.submit(double, 4))) == 8
    asked = (batch / "state" / "1.job").read_text()
    assert [words for words in ASKED[template] if words not in asked] == []
    assert "ada_uni.example" in asked, "whoever sees the job finds the person"
    assert "#PBS -u" not in asked
    running.signal()
    end = running.end()
    assert (end.code, end.left) == (0, [])
    until(lambda: not jobs(batch))


def package() -> str:
    import twinlock_endpoint

    return twinlock_endpoint.__path__[0]


@pytest.mark.thorough
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


@pytest.mark.cases(1)
@schedulers
def test_a_refusal_is_told_in_the_schedulers_words(
    endpoint: Callable[..., Running], queues: Queues, batch: Path, template: str
) -> None:
    (batch / "state" / "refuse").write_text("no allocation for account phys")
    task = queues.submit(double, 4)  # at once: the endpoint doesn't stay for long
    running = endpoint(template, environment=environment(batch))
    assert "no allocation for account phys" in queues.result(task).data
    assert running.end().code == 69


@pytest.mark.cases(1)
@schedulers
def test_a_job_that_was_taken_though_its_submission_failed_is_used(
    endpoint: Callable[..., Running], queues: Queues, batch: Path, template: str
) -> None:
    (batch / "state" / "took").write_text("Connection timed out")
    running = endpoint(template, environment=environment(batch))
    assert value(queues.result(queues.submit(double, 4))) == 8
    until(lambda: "was submitted after all" in running.log())
    assert value(queues.result(queues.submit(double, 5))) == 10
    running.signal()
    end = running.end()
    assert (end.code, end.left) == (0, [])
    # One as a rule; another attempt may come before a busy host has found the first one's job.
    until(lambda: not jobs(batch))


@pytest.mark.cases(1)
@schedulers
def test_a_job_of_an_endpoint_that_was_killed_while_it_submitted_is_cancelled_by_the_next(
    endpoint: Callable[..., Running], queues: Queues, batch: Path, template: str
) -> None:
    (batch / "state" / "slow").touch()
    running = endpoint(template, environment=environment(batch))
    pid = batch / "state" / "1.pid"
    until(pid.exists)
    job = int(pid.read_text())
    os.kill(job, signal.SIGSTOP)  # or it might end by itself, as its workers find nobody any more
    running.signal(9)
    (batch / "state" / "slow").unlink()
    running.end()
    assert lives(job)
    endpoint(template.replace("init_blocks: 1", "init_blocks: 0"), environment=environment(batch))
    until(lambda: not lives(job))


@pytest.mark.thorough
@schedulers
@pytest.mark.parametrize(
    ("odd", "words"),
    [("silent", ""), ("took", "qsub: the accounting hook failed")],
    ids=["no id", "words that nobody knows"],
)
def test_a_job_whose_id_is_not_printed_is_used(
    endpoint: Callable[..., Running], queues: Queues, batch: Path, template: str, odd: str, words: str
) -> None:
    (batch / "state" / odd).write_text(words)
    running = endpoint(template, environment=environment(batch))
    assert value(queues.result(queues.submit(double, 4))) == 8
    running.signal()
    end = running.end()
    assert (end.code, end.left) == (0, [])
    # One as a rule, as above.
    until(lambda: not jobs(batch))


@pytest.mark.thorough
def test_a_held_job_is_not_replaced_by_another_and_its_user_can_see_why(
    endpoint: Callable[..., Running], queues: Queues, batch: Path
) -> None:
    (batch / "state" / "hold").touch()
    endpoint(PBS + "heartbeat_period: 5\n", environment=environment(batch))
    task = queues.submit(double, 4)
    until((batch / "state" / "1.job").exists)
    while "held or suspended" not in (state := queues.figures())["condition"]:
        assert state["total_workers"] == 0
    assert len(list((batch / "state").glob("*.job"))) == 1
    (batch / "state" / "hold").unlink()
    assert value(queues.result(task)) == 8
    assert len(list((batch / "state").glob("*.job"))) == 1


AWAY = "1 cannot connect to server"
UNASKED = re.compile(r"hasn't said for \d+ minutes what became of the batch jobs: ")


@pytest.mark.cases(1)
@pytest.mark.parametrize(("odd", "limit"), [("127 command not found", 900), (AWAY, 1)], ids=["not found", "away"])
def test_a_command_for_the_states_of_jobs_that_fails_is_told(
    endpoint: Callable[..., Running], queues: Queues, batch: Path, odd: str, limit: int
) -> None:
    (batch / "state" / "hold").touch()
    (batch / "state" / "odd").write_text(odd)
    config = PBS.replace("max_workers_per_node: 1", f"max_workers_per_node: 1\n  max_scheduler_outage: {limit}")
    running = endpoint(config + "heartbeat_period: 5\n", environment=environment(batch))
    task = queues.submit(double, 4)
    for _ in range(2):  # for longer than the lower limit
        until(lambda: UNASKED.search(queues.figures()["condition"]))
    assert running.log().count("doesn't say what became of the batch jobs") == 1
    (batch / "state" / "odd").unlink()
    (batch / "state" / "hold").unlink()
    assert value(queues.result(task)) == 8


@pytest.mark.cases(1)
@schedulers
def test_users_wait_for_no_job_whose_state_can_not_be_asked_for_good(
    endpoint: Callable[..., Running], queues: Queues, batch: Path, template: str
) -> None:
    (batch / "state" / "hold").touch()
    (batch / "state" / "odd").write_text("126 Permission denied")
    config = template.replace("max_workers_per_node: 1", "max_workers_per_node: 1\n  max_scheduler_outage: 1")
    running = endpoint(config, environment=environment(batch))
    failed = queues.result(queues.submit(double, 4)).data
    assert UNASKED.search(failed)
    assert "ended with exit code 126: Permission denied" in failed
    assert running.end().code == 69
