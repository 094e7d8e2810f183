"""Starts, ends, signals and limits; nothing that an endpoint started outlives it."""

import os
import pwd
import select
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest
from proc_rig import PATIENCE, until
from process_trees import lives
from spawner_rig import Spawner, Start, gone, uep
from twinlock_wire import wire

pytestmark = pytest.mark.system


@pytest.mark.parametrize(
    ("change", "stage"),
    [("missing", "program"), ("writable", "program"), ("uninterpreted", "program"), ("broken", "exec")],
)
def test_a_program_that_cannot_run_is_refused(start: Start, alice: pwd.struct_passwd, change: str, stage: str) -> None:
    with tempfile.TemporaryDirectory(dir="/opt") as folder:
        program = Path(folder, "program")
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
        Path(folder).chmod(0o755)
        broker = start({"programs": {"changed": [str(program)]}}).connect()
        if change == "missing":
            program.unlink()
        elif change == "writable":
            program.chmod(0o777)
        elif change == "uninterpreted":
            program.write_text("#!/nonexistent/interpreter\n")
        else:
            program.write_text("no program\n")
        broker.spawn(1, alice.pw_name, "changed")
        assert broker.receive(wire.Refused).stage == stage
        assert broker.children() == {}


def test_a_program_that_the_policy_does_not_name(start: Start, alice: pwd.struct_passwd) -> None:
    broker = start().connect()
    broker.spawn(1, alice.pw_name, "shell")
    assert broker.receive(wire.Refused).stage == "policy"


def test_an_exit_is_reported_and_kept_until_noted(start: Start, alice: pwd.struct_passwd) -> None:
    broker = start().connect()
    broker.spawn(1, alice.pw_name, "fail")
    pid = broker.receive(wire.Spawned).pid
    exited = broker.receive(wire.Exited)
    assert (exited.id, exited.pid, os.waitstatus_to_exitcode(exited.status)) == (uep(1), pid, 7)
    assert broker.children()[uep(1)].ended == exited.status

    broker.spawn(1, alice.pw_name, "sleep")
    assert broker.receive(wire.Refused).stage == "duplicate"
    broker.send(wire.Noted(uep(1)))
    assert broker.children() == {}
    broker.spawn(1, alice.pw_name, "sleep")
    broker.receive(wire.Spawned)


# signal(7): those that don't end a process.
HARMLESS = {signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH}
STOPPING = {signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}


@pytest.mark.cases(1)
def test_whatever_signal_ended_a_program_is_reported(
    start: Start, alice: pwd.struct_passwd, mode: dict[str, str]
) -> None:
    """Also those that the spawner handles for itself."""
    fatal = [int(number) for number in signal.valid_signals() - HARMLESS - STOPPING]
    programs = {f"by{number}": ["/bin/sh", "-c", f"kill -{number} $$"] for number in fatal}
    rates = {"start_rate": 1000, "start_rate_per_user": 1000}
    broker = start(mode | rates | {"programs": programs, "rlimits": {"core": [0, 0]}}).connect()
    for number in fatal:
        broker.spawn(1, alice.pw_name, f"by{number}")
        broker.receive(wire.Spawned)
        assert os.waitstatus_to_exitcode(broker.receive(wire.Exited).status) == -number
        broker.send(wire.Noted(uep(1)))


def test_an_exit_waits_for_the_next_broker(start: Start, alice: pwd.struct_passwd) -> None:
    spawner = start()
    first = spawner.connect()
    output = first.spawn(1, alice.pw_name, "sleep")
    pid = first.receive(wire.Spawned).pid
    output.line()
    first.close()
    os.kill(pid, signal.SIGKILL)
    spawner.said.wait_for('"exited"')
    row = spawner.connect().children()[uep(1)]
    assert (row.pid, row.user) == (pid, alice.pw_name)
    assert row.ended is not None
    assert os.waitstatus_to_exitcode(row.ended) == -signal.SIGKILL


def test_children_stay_when_the_broker_goes(start: Start, alice: pwd.struct_passwd) -> None:
    spawner = start()
    first = spawner.connect()
    first.spawn(1, alice.pw_name, "sleep").line()
    first.close()
    assert spawner.connect().children()[uep(1)].ended is None


def test_term_ends_a_child(start: Start, alice: pwd.struct_passwd) -> None:
    broker = start({"stop_grace": 1000}).connect()
    broker.spawn(1, alice.pw_name, "sleep").line()
    broker.receive(wire.Spawned)
    broker.send(wire.Signal(uep(1), "TERM"))
    assert os.waitstatus_to_exitcode(broker.receive(wire.Exited).status) == -signal.SIGTERM


def test_a_child_that_ignores_term_is_killed_after_the_grace(start: Start, alice: pwd.struct_passwd) -> None:
    broker = start({"stop_grace": 0.3}).connect()
    broker.spawn(1, alice.pw_name, "stubborn").line()
    broker.receive(wire.Spawned)
    broker.send(wire.Signal(uep(1), "TERM"))
    assert os.waitstatus_to_exitcode(broker.receive(wire.Exited).status) == -signal.SIGKILL


def test_kill_ends_a_child_at_once(start: Start, alice: pwd.struct_passwd) -> None:
    broker = start({"stop_grace": 1000}).connect()
    broker.spawn(1, alice.pw_name, "stubborn").line()
    broker.receive(wire.Spawned)
    broker.send(wire.Signal(uep(1), "KILL"))
    assert os.waitstatus_to_exitcode(broker.receive(wire.Exited).status) == -signal.SIGKILL


def test_only_known_ids_can_be_signalled(start: Start) -> None:
    broker = start().connect()
    broker.send(wire.Signal(uep(9), "KILL"))
    refused = broker.receive(wire.Refused)
    assert (refused.id, refused.stage) == (uep(9), "signal")
    broker.send(wire.Noted(uep(9)))
    assert broker.children() == {}


def test_an_endpoint_that_runs_is_not_forgotten(start: Start, alice: pwd.struct_passwd) -> None:
    """Whatever a broker takes note of too early; nor is its account's number of endpoints."""
    broker = start({"max_children_per_user": 1}).connect()
    broker.spawn(1, alice.pw_name, "sleep").line()
    broker.receive(wire.Spawned)
    broker.send(wire.Noted(uep(1)))
    assert list(broker.children()) == [uep(1)]
    broker.send(wire.Signal(uep(1), "KILL"))
    broker.receive(wire.Exited)
    broker.spawn(2, alice.pw_name, "sleep")
    assert broker.receive(wire.Refused).stage == "limit"
    broker.send(wire.Noted(uep(1)))
    broker.spawn(2, alice.pw_name, "sleep")
    broker.receive(wire.Spawned)


def test_a_broker_that_asks_again_and_again_puts_no_end_off(start: Start, alice: pwd.struct_passwd) -> None:
    """The grace counts from the first TERM."""
    broker = start({"stop_grace": 2}).connect()
    broker.spawn(1, alice.pw_name, "stubborn").line()
    broker.receive(wire.Spawned)
    told: list[socket.socket] = []
    attempts = 0
    while not told and attempts < 300:
        attempts += 1
        broker.send(wire.Signal(uep(1), "TERM"))
        told, _, _ = select.select([broker.socket], [], [], 0.1)
    assert told
    assert os.waitstatus_to_exitcode(broker.receive(wire.Exited).status) == -signal.SIGKILL


def test_nothing_starts_while_the_spawner_stops(start: Start, alice: pwd.struct_passwd) -> None:
    spawner = start({"stop_grace": 1000})
    broker = spawner.connect()
    broker.spawn(1, alice.pw_name, "stubborn").line()
    broker.receive(wire.Spawned)
    spawner.process.send_signal(signal.SIGTERM)
    broker.spawn(2, alice.pw_name, "fail")
    assert broker.receive(wire.Refused).stage == "rate"
    broker.send(wire.Signal(uep(1), "KILL"))
    assert broker.receive(wire.Exited).id == uep(1)


@pytest.mark.parametrize("word", ["TERM", "KILL"])
def test_daemons_die_with_their_endpoint(start: Start, alice: pwd.struct_passwd, word: str) -> None:
    _daemon_dies(start, alice, {}, word)


@pytest.mark.parametrize("word", ["TERM", "KILL"])
def test_daemons_die_with_their_endpoint_by_cgroup(
    start: Start, alice: pwd.struct_passwd, cgroup: str, word: str
) -> None:
    _daemon_dies(start, alice, {"cgroup": cgroup}, word)
    assert list(Path(cgroup).glob("*/*/cgroup.procs")) == []


def _daemon_dies(start: Start, alice: pwd.struct_passwd, policy: dict[str, str], word: str) -> None:
    """A daemon that double-forked into a session of its own is gone when the end is reported."""
    broker = start(policy).connect()
    daemon = int(broker.spawn(1, alice.pw_name, "daemon").line())
    broker.receive(wire.Spawned)
    broker.send(wire.Signal(uep(1), word))
    broker.receive(wire.Exited)
    assert not lives(daemon)


def test_another_endpoints_daemon_stays(start: Start, alice: pwd.struct_passwd, cgroup: str) -> None:
    broker = start({"cgroup": cgroup}).connect()
    broker.spawn(1, alice.pw_name, "daemon").line()
    broker.receive(wire.Spawned)
    other = int(broker.spawn(2, alice.pw_name, "daemon").line())
    broker.receive(wire.Spawned)
    broker.send(wire.Signal(uep(1), "TERM"))
    broker.receive(wire.Exited)
    assert not gone(other, 0.2)


def test_limits(start: Start, alice: pwd.struct_passwd, bob: pwd.struct_passwd) -> None:
    broker = start({"max_children": 3, "max_children_per_user": 2}).connect()
    for number in (1, 2):
        broker.spawn(number, alice.pw_name, "sleep")
        broker.receive(wire.Spawned)
    broker.spawn(3, alice.pw_name, "sleep")
    refused = broker.receive(wire.Refused)
    assert refused.stage == "limit"
    assert alice.pw_name in refused.reason
    broker.spawn(3, bob.pw_name, "sleep")
    broker.receive(wire.Spawned)
    broker.spawn(4, bob.pw_name, "sleep")
    assert broker.receive(wire.Refused).stage == "limit"
    assert len(broker.children()) == 3


def test_a_full_table_is_listed_in_pages(start: Start, alice: pwd.struct_passwd) -> None:
    broker = start({"max_children_per_user": 50, "start_rate_per_user": 50}).connect()
    numbers = range(wire.MAX_PAGE + 2)
    for number in numbers:
        broker.spawn(number, alice.pw_name, "fail")
    ends = 0
    while ends < len(numbers):
        reply = wire.decode(broker.socket.recv(wire.MAX_DATAGRAM), wire.REPLIES)
        ends += isinstance(reply, wire.Exited)
    assert set(broker.children()) == {uep(number) for number in numbers}


def test_the_spawners_end_ends_all(start: Start, alice: pwd.struct_passwd) -> None:
    spawner = start({"stop_grace": 0.5})
    broker = spawner.connect()
    pids = []
    for number, program in enumerate(("sleep", "stubborn")):
        broker.spawn(number, alice.pw_name, program).line()
        pids.append(broker.receive(wire.Spawned).pid)
    daemon = int(broker.spawn(7, alice.pw_name, "daemon").line())
    broker.receive(wire.Spawned)
    spawner.process.send_signal(signal.SIGTERM)
    assert spawner.process.wait(PATIENCE) == 0
    assert all(gone(pid) for pid in [*pids, daemon])
    assert [line["event"] for line in spawner.audit()][-4:] == ["exited", "exited", "exited", "stopped"]
    # For a moment a process that helped to close something has a copy of the listener.
    assert until(lambda: _refuses_connections(spawner))


def _refuses_connections(spawner: Spawner) -> bool:
    try:
        spawner.connect_raw()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.parametrize("by_cgroup", [True, False])
def test_nothing_is_left_of_a_spawner_that_is_killed(
    start: Start, alice: pwd.struct_passwd, cgroup: str, by_cgroup: bool
) -> None:
    spawner = start({"cgroup": cgroup if by_cgroup else ""})
    broker = spawner.connect()
    daemon = int(broker.spawn(1, alice.pw_name, "daemon").line())
    pid = broker.receive(wire.Spawned).pid
    broker.spawn(2, alice.pw_name, "stubborn").line()
    stubborn = broker.receive(wire.Spawned).pid
    spawner.process.kill()
    assert all(gone(process) for process in (daemon, pid, stubborn))


def test_others_in_the_cgroup_are_left_alone(start: Start, cgroup: str) -> None:
    """A policy may name another's cgroup by mistake. What an earlier spawner left is ended, by its name."""
    folders = [Path(cgroup, "sshd.service"), Path(cgroup, "12345")]
    processes = []
    for folder in folders:
        folder.mkdir(parents=True)
        processes.append(subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        (folder / "cgroup.procs").write_text(str(processes[-1].pid))
    service, left = processes
    try:
        start({"cgroup": cgroup})
        assert left.wait(60) == -signal.SIGKILL
        said, _ = service.communicate(b"alive", timeout=60)  # who is killed, but not dead yet, says nothing any more
        assert said == b"alive"
    finally:
        service.kill()
        service.wait()
        left.kill()
        left.communicate()
