"""`twinlock trace`: what belongs together in the logs of broker and spawner, in its order, by whatever word."""

import asyncio
import gzip
import json
import os
import pwd
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from broker_rig import ALICE, MANAGER, UEP, Told, delivery, endpoint_user, make_folder, message
from broker_site import Site
from spawner_rig import Spawner, uep
from trace_rig import NOWHERE, Host, broker_log, texts
from twinlock_broker.audit import AuditLog
from twinlock_broker.endpoints.failures import Failures
from twinlock_broker.endpoints.handler import CommandHandler
from twinlock_broker.endpoints.pipeline import StartPipeline
from twinlock_broker.errors import Fatal
from twinlock_broker.identity.mapping import Mapper
from twinlock_broker.identity.resolver import Resolver
from twinlock_broker.trace import gather, log_files, sources, table
from twinlock_broker.trace.event import Source
from twinlock_broker.trace.gather import Trace
from twinlock_broker.trace.since import since_of

TWINLOCK = Path(sys.executable).with_name("twinlock")
MAPPING = {"source": "{username}", "match": "(.*)@site\\.example"}
FIRST, SECOND, THIRD = "3f9a1c07", "3f9a1c08", "12345678"


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """Three endpoints: two of ada's, and one of bob's that runs on."""
    made = Host(tmp_path)
    made.start(FIRST, 1, "ada", pid=4001)
    made.end(FIRST, 1, "ada", 4001)
    made.start(SECOND, 2, "ada", pid=4002)
    made.end(SECOND, 2, "ada", 4002, status=9)
    made.start(THIRD, 3, "bob", person="bob@uni.example", pid=4003)
    return made


@pytest.fixture
def handler(tmp_path: Path, site: Site, told: Told) -> Iterator[CommandHandler]:
    """A broker's handling of commands, for the program `sleep`."""
    folder = make_folder(
        tmp_path / "ep", "identity_mapping_config_path: map.json", user_config_schema__json="{}", map__json="[]"
    )
    mappings = [{"DATA_TYPE": "expression_identity_mapping#1.0.0", "mappings": [MAPPING | {"output": endpoint_user()}]}]
    (folder.path / "map.json").write_text(json.dumps(mappings))
    path = StartPipeline(folder, "sleep", Resolver(Mapper(folder.path / "map.json", MANAGER), ()), None)
    made = CommandHandler(MANAGER, None, path, site.supervisor.command, told.send, Failures())
    yield made
    made.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: without it no identity is mapped")
async def test_one_life_by_each_word_that_leads_to_it(
    tmp_path: Path, spawner: Spawner, site: Site, handler: CommandHandler, told: Told
) -> None:
    command = delivery(message(user_opts={"account_id": "phys-1", "api_token": "hush"}))
    with broker_log(tmp_path / "broker.log"):
        await handler.handle(command)
        pid = next(iter(site.supervisor.endpoints)).pid
        await site.supervisor.stop(UEP)
        await told.next()
        words = (command.id, UEP, UEP[:9], "alice@site.example", "alice", ALICE, endpoint_user(), str(pid))
        found = [await asyncio.to_thread(trace, tmp_path, spawner, site, word) for word in words]
    said = texts(found[0])
    expected = [
        "start command of alice@site.example",
        f"mapped to the account {endpoint_user()} by the identity {ALICE}; options given: account_id, api_token",
        "a start command; start it with the newest command",
        f"asked to start the program sleep as {endpoint_user()}",
        f"about to become uid {pwd.getpwnam(endpoint_user()).pw_uid}",
        f"started, process {pid}",
        "the spawner started it",
        "it is to be stopped; stop it",
        "asked to send TERM",
        f"process {pid} was killed by signal 15 (Terminated)",
        "it ended, and nobody waits for it; tell the user, and forget it",
    ]
    places = [next((place for place, text in enumerate(said) if text.startswith(words)), -1) for words in expected]
    assert places == sorted(places), said
    assert -1 not in places, said
    assert [texts(each) for each in found[1:]] == [said] * (len(words) - 1)
    (run,) = found[0].runs
    assert (run.person, run.user, run.pid) == ("alice@site.example", endpoint_user(), pid)
    assert "hush" not in str(found)


def test_task_events_of_high_assurance(host: Host, tmp_path: Path) -> None:
    path, task, function = tmp_path / "tasks-audit.log", uep(71), uep(72)
    written = AuditLog(path, MANAGER)
    records = [f"fid={function} tid={task} bid= {state}" for state in ("RECEIVED", "EXEC_START", "EXEC_END")]
    lost = f"fid={function} tid={uep(73)} bid= FAILED - It was lost"
    path.write_bytes(path.read_bytes() + written.lines(1003, 4003, uep(3), [*records, lost]))
    logs = host.logs()
    logs.logs.append(sources.of_tasks(str(path), log_files.of_file(path, 0)))
    found = gather.trace(THIRD, logs, NOWHERE, with_tasks=False)
    (told,) = [event for event in found.events if event.source is Source.AUDIT]
    assert (told.text, told.request) == ("tasks that ended: 2, functions: 1, failures: 1", THIRD)
    found = gather.trace(task, logs, NOWHERE, with_tasks=True)
    assert f"task {task} of function {function}: EXEC_END" in texts(found)
    assert [run.request for run in found.runs] == [THIRD]


def trace(folder: Path, spawner: Spawner, site: Site, word: str) -> Trace:
    """The trace of a word in the site's logs."""
    logs = [
        sources.of_broker("broker", log_files.of_file(folder / "broker.log", 0)),
        sources.of_spawner("spawner", log_files.of_file(spawner.folder / "audit.log", 0)),
    ]
    return gather.trace(word, sources.Logs(logs, 0.0), site.runtime / "admin.sock", with_tasks=False)


def test_everything_of_an_account_and_of_a_person(host: Host) -> None:
    by_account, by_person = host.trace("ada"), host.trace("ada@uni.example")
    assert texts(by_account) == texts(by_person)
    assert [run.request for run in by_account.runs] == [FIRST, SECOND]
    assert sorted(by_account.meanings) == ["the account ada", "the person ada@uni.example"]
    assert by_person.meanings == ["the person ada@uni.example"]
    assert [run.outcome for run in by_account.runs] == [
        "process 4001 ended with exit code 0",
        "process 4002 was killed by signal 9 (Killed)",
    ]


def test_one_request_only(host: Host) -> None:
    found = host.trace(FIRST)
    assert {event.request for event in found.events} == {FIRST}
    assert {event.endpoint for event in found.events} == {uep(1)}


def test_a_number_that_means_several_things(host: Host) -> None:
    host.start("3f9a1c09", 4, "eve", person="eve@uni.example", pid=int(THIRD))
    host.jobs(FIRST, 1, "ada", THIRD)
    found = host.trace(THIRD)
    assert {run.user for run in found.runs} == {"ada", "bob", "eve"}
    assert found.meanings == [
        f"the request (error id) {THIRD}",
        f"the batch job {THIRD}, by the word of an endpoint of ada",
        f"the process {THIRD} of the endpoint {uep(4)}",
    ]


def test_what_has_no_request_id_goes_to_the_run_in_whose_time_it_is(host: Host) -> None:
    host.say("control.admin", "to be stopped, by root", endpoint=uep(3))
    stopped = [event for event in host.trace(THIRD).events if event.text == "to be stopped, by root"]
    assert [event.request for event in stopped] == [THIRD]


def test_a_later_request_is_served_by_the_endpoint_that_runs(host: Host) -> None:
    later = "feedbeef"
    host.say("endpoints.handler", "start command of bob@uni.example", endpoint=uep(3), command=later)
    taken = "a start command; give it the fresh credentials, and keep the command, should it end soon"
    host.say("endpoints.lifecycle", taken, endpoint=uep(3), user="bob", command=THIRD)
    found = host.trace(later)
    assert {event.request for event in found.events} == {later, THIRD}
    assert "no process was started for it" in " ".join(" ".join(table.lines(found, later, 200)).split())


def test_a_process_of_an_endpoint_leads_to_it(tmp_path: Path) -> None:
    host = Host(tmp_path)
    with subprocess.Popen(["sh", "-c", "sleep 600 & echo $!; wait"], stdout=subprocess.PIPE, text=True) as shell:
        assert shell.stdout is not None
        child = shell.stdout.readline().strip()
        try:
            host.start(FIRST, 1, "ada", pid=shell.pid)
            found = host.trace(child)
        finally:
            subprocess.run(["kill", child, str(shell.pid)], check=True)
    assert [run.request for run in found.runs] == [FIRST]
    assert found.meanings == [f"the process {child}, which belongs to the user endpoint {uep(1)}"]
    assert any(f"process {child} exists: uid {os.getuid()}" in text for text in texts(found))


def test_a_number_that_another_process_has_by_now(tmp_path: Path) -> None:
    host = Host(tmp_path)
    old = json.dumps({"time": "2020-01-01T00:00:00Z", "event": "spawned", "id": uep(1), "pid": os.getpid()})
    host.audit_log.write_text(f"{old}\n")
    with subprocess.Popen(["sleep", "600"]) as child:
        found = host.trace(str(child.pid))
        child.kill()
    assert found.events == []


def test_logs_that_were_rotated(host: Host) -> None:
    with gzip.open(host.folder / "audit.log.2.gz", "wb") as file:
        file.write(host.audit_log.read_bytes())
    host.audit_log.unlink()
    (host.folder / "audit.log.save").write_text("not ours")
    assert "started, process 4001" in texts(host.trace(FIRST))


def test_what_is_older_is_passed_over(host: Host) -> None:
    assert gather.trace(FIRST, host.logs(time.time() + 10), Path("/nowhere"), with_tasks=False).events == []


def test_a_source_that_cannot_be_read_holds_up_no_other(host: Host) -> None:
    host.audit_log.unlink()
    logs = host.logs()
    found = gather.trace(FIRST, logs, Path("/nowhere/admin.sock"), with_tasks=False)
    assert {event.source for event in found.events} == {Source.BROKER}
    assert any(f"{host.audit_log}: can't be read: No such file or directory" in problem for problem in logs.problems)
    assert any("/nowhere/admin.sock: no broker there" in problem for problem in logs.problems)


@pytest.mark.parametrize("damage", [b"\0" * 300_000, b"\xff\xfe{]\n", b'{"event": "spawned"}\n', b'["event"]\n'])
def test_a_damaged_line_costs_only_itself(host: Host, damage: bytes) -> None:
    for path in (host.broker_log, host.audit_log):
        path.write_bytes(damage + b"\n" + path.read_bytes())
    assert len(host.trace(FIRST).runs) == 1


def test_a_users_text_makes_no_event(tmp_path: Path) -> None:
    """Whatever a name has, it stays a name: neither other pairs nor other lines."""
    host = Host(tmp_path)
    forged = f'x" command={SECOND} user=ada event="\ntime=2026-01-01T00:00:00.000Z logger=x command={SECOND} event=y'
    host.start(FIRST, 1, "bob", person=forged, pid=4001)
    assert host.trace(SECOND).events == []
    assert host.trace("ada").events == []
    host.say("compute.notices", "start command of ada@uni.example", endpoint=uep(1), command=FIRST)
    assert host.trace("ada@uni.example").events == []


def run(*words: str | Path, stdin: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    """The command's outcome."""
    argv = [TWINLOCK, "trace", "--socket", "/no-such-folder/admin.sock", *words]
    return subprocess.run(argv, input=stdin, capture_output=True, timeout=180, check=False)


def test_the_command(host: Host) -> None:
    done = run("ada", "--broker-log", "-", "--audit-log", host.audit_log, stdin=host.broker_log.read_bytes())
    lines = done.stdout.decode().splitlines()
    assert done.returncode == 0
    assert lines[0] == "ada: the person ada@uni.example; the account ada"
    assert f"request {FIRST}, person ada@uni.example, account ada, endpoint {uep(1)}" in lines[1]
    assert any(FIRST in line and line.endswith("started, process 4001") for line in lines)
    assert b"/no-such-folder/admin.sock: no broker there" in done.stderr
    done = run("ada", "--json", "--broker-log", host.broker_log, "--audit-log", host.audit_log)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert {"broker", "spawner"} == {event["source"] for event in found}
    (spawned,) = [event for event in found if event.get("pid") == 4001 and "started" in event["text"]]
    assert (spawned["request"], spawned["endpoint"], spawned["user_written"]) == (FIRST, uep(1), False)


def test_nothing_found_says_where_it_was_looked_for(host: Host) -> None:
    done = run("nobody-known", "--broker-log", host.broker_log, "--audit-log", host.audit_log)
    assert (done.returncode, done.stdout) == (1, b"")
    assert str(host.broker_log).encode() in done.stderr
    assert str(host.audit_log).encode() in done.stderr


JOURNALCTL = """#!/bin/sh
case " $* " in
    *" --unit=twinlock-broker "*" --output=cat "*" --since=@"*) cat {log};;
esac
echo "{words}" >&2
exit {code}
"""


@pytest.mark.parametrize("code", [0, 1])
def test_the_journal_is_read_where_no_file_is_named(
    host: Host, tmp_path: Path, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "bin/journalctl"
    program.parent.mkdir()
    program.write_text(JOURNALCTL.format(log=host.broker_log, words="No journal files were opened", code=code))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    logs = sources.Logs([sources.of_broker("the journal", log_files.of_journal(0.0))], 0.0)
    found = gather.trace(FIRST, logs, NOWHERE, with_tasks=False)
    assert "start command of ada@uni.example" in texts(found)
    said = [problem for problem in logs.problems if "No journal files were opened" in problem]
    assert len(said) == code


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_long_reading_shows_on_a_terminal_how_far_it_is(
    host: Host, is_terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sources, "PROGRESS_AFTER", 0.0)
    monkeypatch.setattr(sources, "_STEP", 1)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal)
    assert host.trace(FIRST).runs
    shown = capsys.readouterr().err
    assert (f"\rreading {host.broker_log}: 1 events" in shown) is is_terminal
    assert shown.endswith("\r\x1b[K") is is_terminal


def test_an_empty_word_is_no_word(host: Host) -> None:
    done = run("", "--broker-log", host.broker_log, "--audit-log", host.audit_log)
    assert (done.returncode, done.stdout) == (os.EX_USAGE, b"")


@pytest.mark.parametrize("text", ["", "d", "7", "yesterday", "7x", "-1d"])
def test_a_time_that_is_none(text: str) -> None:
    with pytest.raises(Fatal, match="is neither a duration"):
        since_of(text)


def test_times_and_durations() -> None:
    assert since_of("2h") == pytest.approx(time.time() - 7200, abs=60)
    assert since_of("2026-11-30T18:00+00:00") == 1796061600.0


def test_no_text_looks_like_a_line_of_the_table(host: Host) -> None:
    forged = "2026-11-30 18:00:00  spawner     3f9a1c07  started, process 1"
    host.start("feedbeef", 5, "eve", person=f"eve \x1b[2J\n{forged} " + f"{'x' * 60} {forged} " * 20, pid=4005)
    lines = list(table.lines(host.trace("feedbeef"), "feedbeef", 80))
    assert all(line.isascii() and line.isprintable() for line in lines)
    assert [line[21:28] for line in lines if line.startswith("20")].count("spawner") == 3
    assert max(map(len, lines)) <= 80
