"""Why a batch job waits, as batch systems tell it that aren't available here.

What their commands print is rebuilt from their manuals, sources and sites' pages.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from batch_rig import BATCH_SYSTEMS, CONDOR, GRID_ENGINE, LSF, PBS, TORQUE, environment
from endpoint_rig import Queues, Running, until, value
from parsl.jobs.states import JobState
from twinlock_endpoint.htex.providers import reasons

pytestmark = pytest.mark.system

WAITING = "waiting in the scheduler's queue"
WAITS = {PBS: "Q", TORQUE: "Q", GRID_ENGINE: "qw", LSF: "PEND", CONDOR: "1"}
HELD = {PBS: "H", TORQUE: "H", GRID_ENGINE: "hqw", LSF: "PSUSP", CONDOR: "H"}

FIELDS = "1^Job slot limit reached: 3 hosts;\n2^-\n"
PENDING = """\
JOBID   USER    STAT  QUEUE      FROM_HOST   EXEC_HOST   JOB_NAME   SUBMIT_TIME
1       me      PEND  batch      login1                  parsl.one  Nov 28 13:08
 Candidate host pending reasons (0 of 4 hosts).

 Non-candidate host pending reasons (4 of 4 hosts):
   Closed by LSF administrator: 3 hosts;
   Load information unavailable: 1 host;
2       me      PSUSP batch      login1                  parsl.two  Nov 28 13:09
 The job was suspended by the user while pending;
"""
FULL = """\
Job Id: 1.server
    Job_Name = parsl.one
    job_state = Q
    queue = debug
    Hold_Types = n
    Variable_List = PBS_O_HOME=/home/me,PBS_O_LANG=en_US.UTF-8,
\tPBS_O_LOGNAME=me,comment = no comment
    comment = Not Running: No available resources on nodes of the queue debug, whi
\tch is stopped until Monday
    etime = Sat Nov 28 13:08:01 2026

Job Id: 2.server
    Job_Name = parsl.two
    job_state = H
    Hold_Types = us
"""
DETAILS = """\
==============================================================
job_number:                 1
exec_file:                  job_scripts/1
owner:                      me
script_file:                /home/me/parsl.one.submit
scheduling info:            queue instance "all.q@node01.example.org" dropped because it is full
                            queue instance "all.q@node02.example.org" dropped because it is full
                            cannot run because it exceeds limit "me/////" in rule "max_slots/1"
==============================================================
job_number:                 2
owner:                      me
scheduling info:            job dropped because of user hold
"""
ANALYSIS = """\


-- Schedd: here : <127.0.0.1:9618?addrs=127.0.0.1-9618>
The Requirements expression for job 1.000 is

    (TARGET.Arch == "X86_64") && (TARGET.Memory >= RequestMemory)

The Requirements expression for job 1.000 reduces to these conditions:

         Slots
Step    Matched  Condition
-----  --------  ---------
[0]          34  TARGET.Arch == "X86_64"
[1]          10  TARGET.Memory >= RequestMemory


001.000:  Run analysis summary ignoring user priority.  Of 34 slots on 17 machines,
     24 slots are rejected by your job's requirements
      0 slots reject your job because of their own requirements
     10 slots match but are serving other users
      0 slots match and are willing to run your job

002.000:  Job has not yet been considered by the matchmaker.

"""

TOLD = {
    "LSF": (LSF, {"pend_reason": [0, FIELDS], "-ps": [0, PENDING]}, "Job slot limit reached: 3 hosts"),
    "LSF before 10.1": (LSF, {"-ps": [0, PENDING]}, "Closed by LSF administrator: 3 hosts; Load information unavail"),
    "LSF, a wide table": (LSF, {"-ps": [0, PENDING.replace("  ", "      ")]}, "Closed by LSF administrator: 3 hosts"),
    "Torque": (TORQUE, {"-f": [0, FULL]}, "of the queue debug, which is stopped until Monday"),
    "Torque, with another job forgotten": (TORQUE, {"-f": [153, FULL]}, "of the queue debug, which is stopped"),
    "PBS Pro, without JSON": (PBS, {"-f": [0, FULL]}, "of the queue debug, which is stopped until Monday"),
    "Grid Engine": (
        GRID_ENGINE,
        {"-j": [0, DETAILS]},
        (
            'cannot run because it exceeds limit "me/////" in rule "max_slots/1"; '
            "queue instance … dropped because it is full (2 times)"
        ),
    ),
    "HTCondor": (
        CONDOR,
        {"-better-analyze": [0, ANALYSIS]},
        "24 slots are rejected by your job's requirements; 10 slots match but are serving other users",
    ),
}
told = pytest.mark.parametrize(("template", "why", "reason"), TOLD.values(), ids=TOLD)


def double(number: int) -> int:
    return number * 2


def submit(provider: Any, batch: Path, state: str) -> str:
    """A job that is said to be in this state."""
    job: str = provider.submit("sleep 600", 1)
    (batch / "state" / f"{job.split('.')[0]}.state").write_text(state)
    return job


def answer(batch: Path, why: dict[str, list[Any]]) -> None:
    """Have questions for reasons answered so: by a word of the command line, with exit code and output."""
    (batch / "state" / "why").write_text(json.dumps(why))


def asked(batch: Path) -> list[str]:
    """The questions for reasons that were put."""
    return (batch / "state" / "asked").read_text().splitlines()


def message(provider: Any, job: str) -> str:
    (status,) = provider.status([job])
    return str(status.message)


@told
def test_why_a_job_waits_is_told(
    provider: Any, batch: Path, template: str, why: dict[str, list[Any]], reason: str
) -> None:
    answer(batch, why)
    job = submit(provider, batch, WAITS[template])
    (status,) = provider.status([job])
    assert status.state == JobState.PENDING
    assert status.message.startswith(f"{WAITING} (")
    assert reason in status.message
    assert "\n" not in status.message


@pytest.mark.parametrize(
    ("template", "why", "reason"),
    [
        (LSF, {"pend_reason": [0, FIELDS], "-ps": [0, PENDING]}, "The job was suspended by the user while pending"),
        (TORQUE, {"-f": [0, FULL]}, "held by the user, the system"),
        (GRID_ENGINE, {"-j": [0, DETAILS]}, "job dropped because of user hold"),
        (CONDOR, {}, 'via condor_hold (by user "me")'),
    ],
    ids=["LSF", "Torque", "Grid Engine", "HTCondor"],
)
def test_why_a_job_is_held_is_told_beside_others(
    provider: Any, batch: Path, template: str, why: dict[str, list[Any]], reason: str
) -> None:
    answer(batch, why)
    submit(provider, batch, WAITS[template])
    job = submit(provider, batch, HELD[template])
    (status,) = provider.status([job])
    assert (status.state, status.message) == (JobState.HELD, reason)


ACCOUNTING = """\
==============================================================
qname        all.q
hostname     node01.example.org
owner        me
jobname      parsl.one
jobnumber    1
taskid       undefined
slots        1
failed       37  : qmaster enforced h_rt, h_cpu, or h_vmem limit
exit_status  137                  (Killed)
ru_wallclock 1200s
"""
ENDED = "Job Id: 1.server\n    Job_Name = parsl.one\n    job_state = C\n    exit_status = {}\n"
GONE = "Following jobs do not exist:\n1\n"
LIMIT = "TERM_RUNLIMIT: job killed after reaching LSF run time limit"


@pytest.mark.cases(6)
@pytest.mark.parametrize(
    ("template", "state", "why", "end"),
    [
        (LSF, "EXIT", {"exit_code": [0, f"1^140^{LIMIT}\n"]}, f"exit code 140, {LIMIT}"),
        (LSF, "DONE", {"exit_code": [0, "1^0^-\n"]}, None),
        (TORQUE, "C", {"-f": [0, ENDED.format(271)]}, "signal 15"),
        (TORQUE, "C", {"-f": [0, ENDED.format(3)]}, "exit code 3"),
        (TORQUE, "C", {"-f": [0, ENDED.format(0)]}, None),
        (
            GRID_ENGINE,
            "F",
            {"qacct": [0, ACCOUNTING], "qstat": [1, GONE]},
            "exit code 137 (Killed), qmaster enforced h_rt, h_cpu, or h_vmem limit",
        ),
        (CONDOR, "F", {"-limit": [0, "1.0 137 undefined undefined\n"]}, "exit code 137"),
        (
            CONDOR,
            "3",
            {"-limit": [0, '1.0 undefined 9 "via condor_rm (by user root)"\n']},
            "signal 9, via condor_rm (by user root)",
        ),
        (LSF, "EXIT", {}, None),
        (TORQUE, "C", {}, None),
        (GRID_ENGINE, "F", {"qstat": [1, GONE]}, None),
        (CONDOR, "F", {}, None),
    ],
)
def test_how_a_job_ended_is_told(
    provider: Any, batch: Path, template: str, state: str, why: dict[str, list[Any]], end: str | None
) -> None:
    """Where the scheduler says it."""
    job = provider.submit("sleep 600", 1)
    assert provider.status([job])[0].state == JobState.RUNNING
    answer(batch, why)
    (batch / "state" / f"{job.split('.')[0]}.state").write_text(state)
    (status,) = provider.status([job])
    assert status.terminal
    assert status.message == end


@pytest.mark.parametrize("template", [CONDOR])
def test_htcondor_is_not_asked_for_an_analysis_of_a_job_whose_reason_is_known(provider: Any, batch: Path) -> None:
    answer(batch, {})
    job = submit(provider, batch, "unmatched")
    assert message(provider, job) == f"{WAITING} (no match found)"
    assert not (batch / "state" / "asked").exists()


NOTHING = {
    "words that nobody knows": "*** maintenance on Monday ***\n\nΩ: {jobs} ^ %\n",
    "nothing": "",
    "turned off": DETAILS.partition("scheduling info")[0]
    + "scheduling info:            (Collecting of scheduler job information is turned off)\n",
    "only heads": "Job Id: 1.server\njob_number: 1\n001.000:  Run analysis summary\n1^-\n1 me PEND batch\n",
    "cut off": "1\nJob Id:\n    comment = \njob_number:\nscheduling info:\n",
}


@pytest.mark.cases(2)
@pytest.mark.parametrize("code", [0, 1])
@pytest.mark.parametrize("output", NOTHING.values(), ids=NOTHING)
@pytest.mark.parametrize("template", BATCH_SYSTEMS.values(), ids=BATCH_SYSTEMS)
def test_an_answer_that_is_not_understood_is_no_reason(
    provider: Any, batch: Path, template: str, output: str, code: int
) -> None:
    answer(batch, {"": [code, output]})
    job = submit(provider, batch, WAITS[template])
    assert message(provider, job) == WAITING
    assert provider.silence is None


@pytest.mark.parametrize("template", [LSF, TORQUE, GRID_ENGINE, CONDOR], ids=["LSF", "Torque", "Grid Engine", "Condor"])
def test_a_question_that_fails_is_not_put_again_soon(provider: Any, batch: Path, template: str) -> None:
    answer(batch, {})
    job = submit(provider, batch, WAITS[template])
    assert message(provider, job) == WAITING
    first = asked(batch)
    assert message(provider, job) == WAITING
    assert asked(batch) == first


@pytest.mark.parametrize("template", [TORQUE])
def test_a_new_reason_takes_the_place_of_the_old_one_and_running_jobs_are_not_asked_about(
    provider: Any, batch: Path
) -> None:
    answer(batch, {"-f": [0, FULL]})
    provider.submit("sleep 600", 1)
    job = submit(provider, batch, "Q")
    answer(batch, {"-f": [0, "Job Id: 2.server\n    comment = Draining\n"]})
    assert message(provider, job) == f"{WAITING} (Draining)"
    answer(batch, {"-f": [0, "Job Id: 2.server\n    comment = User limit\n"]})
    assert message(provider, job) == f"{WAITING} (User limit)"
    assert asked(batch) == ["qstat -f 2.server"] * 2


@pytest.mark.parametrize("template", [TORQUE])
def test_a_reason_has_a_limit(provider: Any, batch: Path) -> None:
    answer(batch, {"-f": [0, f"Job Id: 1.server\n    comment = {'long ' * 9000}\n"]})
    assert len(message(provider, submit(provider, batch, "Q"))) < 400


def test_a_question_that_costs_much_is_put_seldom_and_its_answer_kept() -> None:
    now = [0.0]
    commands: list[str] = []

    def run(command: str) -> tuple[int, str, str]:
        commands.append(command)
        return 0, ANALYSIS, ""

    inquiry = reasons.Inquiry(reasons.CONDOR, run, lambda: now[0])
    first = inquiry.reasons(["1.0"])
    assert inquiry.reasons(["1.0", "2.0"]) == {**first, "2.0": "Job has not yet been considered by the matchmaker."}
    assert commands == ["condor_q -better-analyze 1.0"]
    now[0] = 301.0
    inquiry.reasons(["1.0", "2.0"])
    assert commands[1:] == ["condor_q -better-analyze 1.0 2.0"]


@pytest.mark.cases(1)
@pytest.mark.parametrize(
    ("template", "why", "reason"),
    [TOLD[name] for name in ("LSF", "Torque", "Grid Engine", "HTCondor")],
    ids=["LSF", "Torque", "Grid Engine", "HTCondor"],
)
def test_users_see_why_their_job_waits(
    endpoint: Callable[..., Running],
    queues: Queues,
    batch: Path,
    template: str,
    why: dict[str, list[Any]],
    reason: str,
) -> None:
    answer(batch, why)
    (batch / "state" / "1.state").write_text(WAITS[template])
    (batch / "state" / "hold").touch()
    running = endpoint(template + "heartbeat_period: 5\n", environment=environment(batch))
    task = queues.submit(double, 4)
    until((batch / "state" / "1.job").exists)
    while reason not in queues.figures()["condition"]:
        continue
    (told,) = [line for line in running.log().splitlines() if "The batch job 1" in line and reason in line]
    assert "INFO" in told
    (batch / "state" / "1.state").unlink()
    (batch / "state" / "hold").unlink()
    assert value(queues.result(task)) == 8
