"""What users' own files and the scheduler add to a trace, and what hostile ones can't do."""

import asyncio
import dataclasses
import json
import logging
import os
import pwd
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from broker_rig import MANAGER, UEP, endpoint_user, request
from broker_site import Site
from spawner_rig import Spawner, uep
from trace_rig import NOWHERE, Host, broker_log, log_line, texts
from twinlock_broker.account_files import UnreadableError
from twinlock_broker.endpoints.pipeline import StartRequest
from twinlock_broker.errors import Fatal
from twinlock_broker.trace import endpoint_log, gather, log_files, sources, table
from twinlock_broker.trace.event import Event, Source
from twinlock_broker.trace.selection import Run
from twinlock_broker.trace.tasks import Task
from twinlock_endpoint.tasks.entry import Entry
from twinlock_endpoint.tasks.intake import Origin
from twinlock_endpoint.tasks.task_log import TaskLog
from twinlock_endpoint.worker import messages

FUNCTION = "7b1f2f6e-0000-4000-8000-00000000000f"
NOW = time.time()
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it reads as another account")


@pytest.fixture
def base() -> Iterator[Path]:
    """A folder that every account can enter."""
    with tempfile.TemporaryDirectory(prefix="twl-", dir="/var/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def run_of(**changes: object) -> Run:
    """A run of the endpoint's account that began a minute ago and goes on."""
    plain = {"request": "3f9a1c07", "endpoint": UEP, "user": endpoint_user(), "pid": 4001, "begin": NOW - 60}
    return Run(**(plain | {"end": NOW} | changes))  # type: ignore[arg-type]


def result(task_id: str, *, error: tuple[str, str] | None = None) -> bytes:
    """A result as a worker makes it, which had the task for two seconds."""
    ended = time.time_ns()
    times = (("execution-start", ended - 2 * 10**9), ("execution-end", ended))
    states = [messages.transition(state, "worker", moment) for state, moment in times]
    details = {"os": "Linux", "worker": "node7:4242", "endpoint_id": UEP}
    return messages.result(task_id, "x" * 5000, states, error=error, details=details)


async def list_tasks(folder: Path) -> None:
    """A list of three tasks, one of which failed, and one that no worker had."""
    made = TaskLog(folder / "tasks.log")
    for number, answer in ((1, result(uep(1))), (2, result(uep(2), error=("RemoteExecutionError", "y" * 1000)))):
        entry = Entry(uep(number), None)
        entry.know(Origin(FUNCTION), None)
        made.note(entry, answer)
    lost = [messages.transition("execution-end", "interchange", time.time_ns())]
    made.note(Entry(uep(3), None), messages.result(uep(3), "lost", lost, error=("ManagerLost", "it was lost")))
    await made.close(60)


async def test_the_list_of_tasks_is_read_as_the_endpoint_writes_it(tmp_path: Path) -> None:
    await list_tasks(tmp_path)
    assert (tmp_path / "tasks.log").stat().st_mode & 0o777 == 0o600
    found = [Task.read(line) for line in (tmp_path / "tasks.log").read_text().splitlines()]
    assert all(found)
    first, second, third = (task for task in found if task is not None)
    assert (first.id, first.function, first.worker, first.outcome) == (uep(1), FUNCTION, "node7:4242", "success")
    assert first.end - first.start == pytest.approx(2, abs=0.01)
    assert (second.outcome, second.worker) == ("RemoteExecutionError", "node7:4242")
    assert (third.function, third.worker, third.start, third.outcome) == ("unknown", "-", 0.0, "ManagerLost")


def in_folder(base: Path, user: str) -> StartRequest:
    """A start of an endpoint whose folder is in `base`."""
    made = request(user, "sleep")
    document = dataclasses.replace(made.document, environment={"GLOBUS_COMPUTE_USER_DIR": str(base)})
    return dataclasses.replace(made, document=document)


@pytest.mark.parametrize("each_task", [False, True])
async def test_the_endpoints_own_files_in_a_trace(
    tmp_path: Path, base: Path, spawner: Spawner, site: Site, each_task: bool
) -> None:
    folder = base / f"uep.{MANAGER}.{UEP}"
    folder.mkdir()
    made = in_folder(base, endpoint_user())
    with broker_log(tmp_path / "broker.log"):
        await site.supervisor.command(made)
        (folder / "endpoint.log").write_text(
            log_line("of an earlier request", time.time() - 1000) + log_line("Block 0 is the batch job 77")
        )
        await list_tasks(folder)
        later = {"endpoint": UEP, "command": "feedbeef", "user": endpoint_user()}  # one that finds it running
        logging.getLogger("twinlock_broker.endpoints.handler").info("start command of ada@uni.example", extra=later)
        if os.geteuid() == 0:
            for path in folder.iterdir():
                os.chown(path, pwd.getpwnam(endpoint_user()).pw_uid, -1)
        logs = sources.Logs(
            [
                sources.of_broker("broker", log_files.of_file(tmp_path / "broker.log", 0)),
                sources.of_spawner("spawner", log_files.of_file(spawner.folder / "audit.log", 0)),
            ],
            0.0,
        )
        socket = site.runtime / "admin.sock"
        found = await asyncio.to_thread(gather.trace, UEP, logs, socket, each_task)
    assert "feedbeef" in {event.request for event in found.events}
    assert logs.problems == []
    own = [event for event in found.events if event.source is Source.USER]
    said = "\n".join(event.text for event in own)
    assert "Block 0 is the batch job 77" in said
    assert "of an earlier request" not in said
    assert {event.request for event in own} == {made.command}
    if each_task:
        assert {task for event in own for task in event.tasks} == {uep(1), uep(2), uep(3), FUNCTION, "unknown"}
        assert "ran 2.0 s on node7:4242, RemoteExecutionError" in said
    else:
        assert "3 tasks ended from " in said
        assert f"2 of them failed; functions: {FUNCTION} (2), unknown (1)" in said


def test_lines_of_a_log_count_only_in_the_time_of_the_run() -> None:
    lines = [log_line(text, moment).strip() for text, moment in (("before", NOW - 100), ("then", NOW - 30))]
    run = run_of(outcome="process 4001 ended with exit code 0", end=NOW - 20)
    late = log_line("after", NOW).strip()
    assert [event.text for event in endpoint_log.events([*lines, late], run)] == ["then"]


HOSTILE = (
    "\x1b[2J\x1b[1;1H2026-11-30 18:50:00  spawner     3f9a1c07  started, process 1",
    "\N{RIGHT-TO-LEFT OVERRIDE}\N{LINE SEPARATOR}\u009b31m",
    f"{'x' * 90} 2026-11-30 18:50:00  broker      3f9a1c07  start command of bob@uni.example" * 3,
    "\N{FULLWIDTH LATIN SMALL LETTER X}" * 100,
)


def test_a_hostile_log_makes_no_line_of_another_source() -> None:
    events = endpoint_log.events([log_line(text, NOW - 10).strip("\n") for text in HOSTILE], run_of())
    assert len(events) == len(HOSTILE)
    assert {event.source for event in events} == {Source.USER}
    lines = list(table.lines(gather.Trace(["x"], [], events, 0), "x", 80))
    assert all(line.isascii() and line.isprintable() and len(line) <= 80 for line in lines)
    rows = [line for line in lines if not line.startswith(" ")]
    assert len(rows) == len(HOSTILE) + 2
    assert all(row[21:41] == "user's log  3f9a1c07" for row in rows[2:])


def test_a_log_of_any_length_is_bounded() -> None:
    many = [log_line(f"line {number} {'x' * 100_000}", NOW - 10).strip() for number in range(1000)]
    events = endpoint_log.events(many, run_of())
    assert len(events) == endpoint_log.MOST_LINES
    assert "801 earlier lines are left out" in events[0].text
    assert max(len(event.text) for event in events) <= endpoint_log.LONGEST


@pytest.mark.parametrize(
    "line",
    [
        "task=x function=y",
        f"task={uep(1)} function={uep(2)} accepted=2026-99-99T00:00:00.000Z start=- end=- worker=- outcome=success",
        f"task={uep(1)} function={uep(2)} accepted=x start=- end=2026-01-01T00:00:00.000Z worker=\x1b outcome=success",
    ],
)
def test_a_line_that_is_no_task(line: str) -> None:
    assert Task.read(line) is None


@needs_root
def test_a_link_shows_nothing_that_the_account_cannot_read(base: Path) -> None:
    private = base / "private"
    private.write_text(log_line("hush"))
    private.chmod(0o600)
    (base / "endpoint.log").symlink_to(private)
    with pytest.raises(UnreadableError, match="Permission denied"):
        endpoint_log.read(run_of(), base)


@pytest.mark.parametrize("kind", ["pipe", "endless"])
def test_a_file_that_never_answers_holds_up_nobody(base: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint_log, "LIMIT", 0.5)
    monkeypatch.setattr(endpoint_log, "MOST_BYTES", 1000)
    if kind == "pipe":
        os.mkfifo(base / "endpoint.log")
    else:
        (base / "endpoint.log").symlink_to("/dev/zero")
    with pytest.raises(UnreadableError, match="didn't answer within"):
        endpoint_log.read(run_of(), base)


def test_a_large_file_is_read_from_its_end(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint_log, "MOST_BYTES", 1000)
    (base / "endpoint.log.1").write_text("a" * 5000)
    (base / "endpoint.log").write_text("b" * 5000 + "the end")
    text = "\n".join(endpoint_log.read(run_of(), base))
    assert len(text) == 2000
    assert text.endswith("the end")


def test_an_endpoint_that_has_no_files(base: Path) -> None:
    assert endpoint_log.read(run_of(), base / "nothing") == [""]
    with pytest.raises(Fatal, match="root is root"):
        endpoint_log.read(run_of(user="root"), base)


SACCT = f"""#!/bin/sh
case "$*" in *--jobs=*77*) ;; *) exit 1;; esac
echo '77|ada|COMPLETED|0:0|node[1-2]|{NOW - 180:.0f}|{NOW - 120:.0f}|{NOW - 60:.0f}'
echo '78|eve|RUNNING|0:0|node3|{NOW - 180:.0f}|{NOW - 120:.0f}|{NOW + 3600:.0f}'
"""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A scheduler that knows a job of ada's and one of eve's."""
    path = tmp_path / "bin/sacct"
    path.parent.mkdir()
    path.write_text(SACCT)
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}:{os.environ['PATH']}")
    return path


def jobs(found: gather.Trace) -> list[Event]:
    """What the scheduler says."""
    return [event for event in found.events if event.source is Source.SCHEDULER]


@pytest.mark.usefixtures("slurm")
def test_what_the_scheduler_says_of_a_job(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.start("3f9a1c07", 1, "ada", pid=4001)
    host.jobs("3f9a1c07", 1, "ada", "77", "not-a-number; rm -rf /")
    found = host.trace("77")
    assert [event.text for event in jobs(found)] == [
        "batch job 77 of ada was submitted; now COMPLETED",
        "batch job 77 started on node[1-2]",
        "batch job 77 ended as COMPLETED, exit code 0:0",
    ]
    assert {event.request for event in jobs(found)} == {"3f9a1c07"}


@pytest.mark.usefixtures("slurm")
def test_nobody_draws_jobs_of_others_into_a_trace(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.start("3f9a1c07", 1, "ada", pid=4001)
    host.start("feedbeef", 2, "eve", person="eve@uni.example", pid=4002)
    host.jobs("3f9a1c07", 1, "ada", "77")
    host.jobs("feedbeef", 2, "eve", "77", "78")
    running = jobs(host.trace("eve"))
    assert {(event.user, event.jobs) for event in running} == {("eve", ("78",))}
    assert "ended" not in "".join(event.text for event in running)
    assert {event.user for event in jobs(host.trace("ada"))} == {"ada"}
    by_job = host.trace("77")
    assert {run.user for run in by_job.runs} == {"ada"}
    assert any("no batch job of eve" in meaning for meaning in by_job.meanings)


@pytest.mark.usefixtures("slurm")
def test_a_job_that_no_endpoint_has_named(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.start("3f9a1c07", 1, "ada", pid=4001)
    found = host.trace("77")
    assert found.meanings == ["the batch job 77 of ada, by the scheduler"]
    assert len(jobs(found)) == len(found.events) == 3


def test_without_a_scheduler_nothing_is_said_of_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(tmp_path)
    host.start("3f9a1c07", 1, "ada", pid=4001)
    host.jobs("3f9a1c07", 1, "ada", "77")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert jobs(host.trace("77")) == []
    assert "says that it has batch jobs: 77" in texts(host.trace("77"))


def test_one_users_file_system_holds_up_no_other(tmp_path: Path) -> None:
    """An account that isn't there any more stands for files that can't be read."""
    host = Host(tmp_path)
    host.start("3f9a1c07", 1, "no-such-user-here", pid=4001)
    host.start("3f9a1c08", 2, "no-such-user-here", pid=4002)
    logs = host.logs()
    found = gather.trace("no-such-user-here", logs, NOWHERE, with_tasks=False)
    assert len(found.runs) == 2
    assert len([problem for problem in logs.problems if "has no account" in problem]) == 1
    assert json.dumps(logs.problems).isascii()
