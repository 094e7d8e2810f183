"""SIGHUP: a new policy or a new version in the same process, which neither endpoints nor the next broker notice."""

import json
import os
import pwd
import signal
import socket
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from proc_rig import PATIENCE
from process_trees import alive, children, eventually, lives, program
from spawner_rig import MANAGER, PYTHON, Broker, Spawner, Start, uep, write_policy
from spawner_versions import Version
from twinlock_wire import wire

pytestmark = pytest.mark.system

PAM = ("auth", "account", "session")


def _change(spawner: Spawner, **values: Any) -> None:
    """Change keys of the policy file."""
    old = tomllib.loads((spawner.folder / "policy.toml").read_text())
    write_policy(spawner.folder, old | values)


def _reload(spawner: Spawner, **values: Any) -> Broker:
    """Change the policy and let the spawner start over; a broker that has connected to what it is then."""
    _change(spawner, **values)
    _start_over(spawner)
    return spawner.connect()


def _start_over(spawner: Spawner) -> None:
    before = spawner.said.count()
    spawner.process.send_signal(signal.SIGHUP)
    spawner.said.wait_for('"started"', after=before)


def _failed(spawner: Spawner) -> str:
    """Why the spawner, on SIGHUP, stays as it is."""
    before = spawner.said.count()
    spawner.process.send_signal(signal.SIGHUP)
    line = spawner.said.wait_for('"reload-failed"', seconds=60, after=before)
    return str(json.loads(line)["reason"])


def _since(pid: int) -> str:
    """When a process was started: the kernel's word for it, which no other process with its pid has."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


def test_a_new_policy_takes_effect_and_children_do_not_notice(start: Start, alice: pwd.struct_passwd) -> None:
    spawner = start({"stop_grace": 1000})
    first = spawner.connect()
    daemon = int(first.spawn(1, alice.pw_name, "daemon").line())
    pid = first.receive(wire.Spawned).pid
    endpoint = program(pid)
    parent, since, own = children(pid), _since(endpoint), _since(spawner.process.pid)

    broker = _reload(spawner, max_children_per_user=2, programs={"new": [*PYTHON, "print('new')"]})
    assert first.hung_up()
    assert _since(spawner.process.pid) == own
    assert broker.children() == {uep(1): wire.Child(uep(1), pid, alice.pw_name, f"uep.{MANAGER}.{uep(1)}", None)}
    assert (children(pid), _since(endpoint)) == (parent, since)
    assert lives(daemon)

    assert broker.spawn(2, alice.pw_name, "new").line() == "new\n"
    broker.receive(wire.Spawned)
    broker.receive(wire.Exited)
    broker.spawn(3, alice.pw_name, "sleep")
    assert broker.receive(wire.Refused).stage == "limit"

    broker.send(wire.Signal(uep(1), "TERM"))
    exited = broker.receive(wire.Exited)
    assert (exited.id, exited.pid, os.waitstatus_to_exitcode(exited.status)) == (uep(1), pid, -signal.SIGTERM)
    assert not lives(daemon)


def test_the_service_manager_is_told_of_a_reload(start: Start, tmp_path: Path) -> None:
    """That it begins and when, and that it is over, also where it fails: sd_notify(3)."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify.sock"))
        manager.settimeout(60)
        spawner = start(prefix=("env", f"NOTIFY_SOCKET={tmp_path}/notify.sock"))
        assert manager.recv(100) == b"READY=1"
        for values in ({}, {"no_such_key": 1}):
            _change(spawner, **values)
            before = time.monotonic_ns() // 1000
            spawner.process.send_signal(signal.SIGHUP)
            state, _, began = manager.recv(100).decode().partition("\nMONOTONIC_USEC=")
            assert state == "RELOADING=1"
            assert before <= int(began) <= time.monotonic_ns() // 1000
            assert manager.recv(100) == b"READY=1"


def test_a_service_manager_that_is_gone_is_no_reason_to_end(start: Start, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify.sock"))
        spawner = start(prefix=("env", f"NOTIFY_SOCKET={tmp_path}/notify.sock"))
    _start_over(spawner)
    assert spawner.connect().children() == {}


def test_an_end_after_a_reload_is_no_early_one(start: Start, alice: pwd.struct_passwd) -> None:
    """One within five seconds of its start would cost five more: here all that may come at once."""
    spawner = start({"start_rate_per_user": 0.3})
    broker = spawner.connect()
    broker.spawn(1, alice.pw_name, "sleep").line()
    broker.receive(wire.Spawned)
    broker = _reload(spawner)
    broker.send(wire.Signal(uep(1), "KILL"))
    broker.receive(wire.Exited)
    for number in range(2, 7):
        broker.spawn(number, alice.pw_name, "sleep")
        assert broker.receive(wire.Spawned).id == uep(number)


def test_what_the_policy_no_longer_allows_is_refused(start: Start, alice: pwd.struct_passwd) -> None:
    spawner = start()
    broker = spawner.connect()
    broker.spawn(1, alice.pw_name, "sleep").line()
    broker.receive(wire.Spawned)
    broker = _reload(spawner, deny_users=[alice.pw_name])
    broker.spawn(2, alice.pw_name, "sleep")
    assert broker.receive(wire.Refused).stage == "policy"
    assert broker.children()[uep(1)].ended is None


def test_programs_that_run_unsigned_work_keep_the_policy_as_it_was(start: Start, alice: pwd.struct_passwd) -> None:
    spawner = start()
    broker = spawner.connect()
    _change(spawner, verified_only=True)
    assert "may run work that nobody has signed, which verified_only rules out" in _failed(spawner)
    broker.spawn(1, alice.pw_name, "sleep").line()
    assert broker.receive(wire.Spawned).id == uep(1)


def test_an_end_that_nobody_noted_is_still_listed(start: Start, alice: pwd.struct_passwd) -> None:
    spawner = start()
    broker = spawner.connect()
    broker.spawn(1, alice.pw_name, "fail")
    broker.receive(wire.Spawned)
    exited = broker.receive(wire.Exited)
    broker = _reload(spawner)
    assert broker.children()[uep(1)].ended == exited.status
    broker.send(wire.Noted(uep(1)))
    assert broker.children() == {}


def test_an_end_while_the_spawner_starts_over_is_reported(
    start: Start, alice: pwd.struct_passwd, version: Version
) -> None:
    spawner = version.start({})
    broker = spawner.connect()
    broker.spawn(1, alice.pw_name, "sleep").line()
    pid = broker.receive(wire.Spawned).pid
    broker.close()  # or else it is hung up on, by a process of the spawner's whose end wakes up the new self
    spawner.said.wait_for('"disconnected"')
    assert eventually(lambda: children(spawner.process.pid) == [pid])
    with version.gate() as opened:
        spawner.process.send_signal(signal.SIGHUP)
        opened()
        os.kill(program(pid), signal.SIGKILL)
        assert eventually(lambda: not lives(pid))
    spawner.said.wait_for('"exited"')
    [row] = spawner.connect().children().values()
    assert (row.id, row.pid, row.ended) == (uep(1), pid, signal.SIGKILL)


@pytest.mark.parametrize("signals", [2, 5])
def test_several_signals_at_once(start: Start, alice: pwd.struct_passwd, signals: int) -> None:
    spawner = start()
    broker = spawner.connect()
    broker.spawn(1, alice.pw_name, "sleep").line()
    pid = broker.receive(wire.Spawned).pid
    before = spawner.said.count()
    for _ in range(signals):
        spawner.process.send_signal(signal.SIGHUP)
    spawner.said.wait_for('"started"', after=before)
    assert eventually(lambda: _answers(spawner, pid))
    assert [line["event"] for line in spawner.audit()].count("started") >= 2
    assert "reload-failed" not in [line["event"] for line in spawner.audit()]


def _answers(spawner: Spawner, pid: int) -> bool:
    """Whether a broker learns that the first endpoint runs; it has to connect again if the spawner starts over."""
    try:
        return spawner.connect().children()[uep(1)].pid == pid
    except (OSError, wire.WireError):
        return False


def test_nothing_piles_up(start: Start, alice: pwd.struct_passwd) -> None:
    """Neither open files nor processes, however often the spawner starts over."""
    spawner = start()
    broker = spawner.connect()
    broker.spawn(1, alice.pw_name, "sleep").line()
    pid = broker.receive(wire.Spawned).pid
    _reload(spawner).close()

    def resources() -> tuple[int, list[int]]:
        return len(os.listdir(f"/proc/{spawner.process.pid}/fd")), children(spawner.process.pid)

    spawner.said.wait_for('"disconnected"')
    # One file more, maybe, and a process: the connection is closed after that line, with the help of another process.
    assert eventually(lambda: children(spawner.process.pid) == [pid])
    before = resources()
    for _ in range(5):
        lines = spawner.said.count()
        _start_over(spawner)
        spawner.connect().close()
        spawner.said.wait_for('"disconnected"', after=lines)
    assert eventually(lambda: resources()[0] <= before[0] and resources()[1] == [pid]), (before, resources())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda text: text + "\nno_such_key = 1\n", "no_such_key"),
        (lambda text: text.replace("stop_grace = 1\n", 'stop_grace = "soon"\n'), "stop_grace"),
        (lambda text: text + "= = =", "policy.toml"),
    ],
    ids=["unknown-key", "wrong-type", "no-toml"],
)
def test_a_bad_policy_changes_nothing(
    start: Start, alice: pwd.struct_passwd, change: Callable[[str], str], reason: str
) -> None:
    spawner = start()
    broker = spawner.connect()
    path = spawner.folder / "policy.toml"
    good = path.read_text()
    head, programs = good.split("[programs]")
    path.write_text(change(head) + "[programs]" + programs)
    assert reason in _failed(spawner)
    broker.spawn(1, alice.pw_name, "sleep").line()
    broker.receive(wire.Spawned)

    path.write_text(good.replace("stop_grace = 1\n", "stop_grace = 2\n"))
    _start_over(spawner)
    assert list(spawner.connect().children()) == [uep(1)]


def test_a_policy_that_others_may_write_changes_nothing(start: Start) -> None:
    spawner = start()
    (spawner.folder / "policy.toml").chmod(0o666)
    assert "writable" in _failed(spawner)


def test_a_new_version_takes_over(version: Version, alice: pwd.struct_passwd) -> None:
    spawner = version.start({})
    broker = spawner.connect()
    broker.spawn(1, alice.pw_name, "sleep").line()
    pid = broker.receive(wire.Spawned).pid
    version.change(
        "twinlock_wire/wire.py",
        lambda text: text.replace(f"\nWITH_COMMAND = {wire.WITH_COMMAND}\n", "\nWITH_COMMAND = 77\n"),
    )
    _start_over(spawner)
    broker = spawner.connect_raw()
    assert [broker.receive(wire.Hello).version for _ in wire.VERSIONS] == [wire.VERSION, 77]
    assert broker.children()[uep(1)].pid == pid
    broker.send(wire.Signal(uep(1), "KILL"))
    assert broker.receive(wire.Exited).pid == pid


def test_no_code_of_other_packages_is_in_the_process_that_serves(version: Version, tmp_path: Path) -> None:
    """The lines of .pth files, site(7), run in each process of Python that doesn't leave that out."""
    [site] = (tmp_path / "venv/lib").glob("python*/site-packages")
    noted = tmp_path / "noted"
    noted.touch()
    (site / "theirs.pth").write_text(f"import sys; open({str(noted)!r}, 'a').write(sys.orig_argv[-2] + chr(10))\n")
    spawner = version.start({})
    _start_over(spawner)
    assert set(noted.read_text().splitlines()) == {"--policy"}


def test_a_broken_version_changes_nothing(version: Version, alice: pwd.struct_passwd) -> None:
    spawner = version.start({})
    broker = spawner.connect()
    version.change("twinlock_spawner/server.py", lambda text: text + "\nraise RuntimeError('half installed')\n")
    assert "half installed" in _failed(spawner)
    broker.spawn(1, alice.pw_name, "sleep").line()
    broker.receive(wire.Spawned)


def test_a_version_whose_check_hangs_changes_nothing(version: Version, alice: pwd.struct_passwd) -> None:
    spawner = version.start({})
    broker = spawner.connect()
    broker.spawn(1, alice.pw_name, "sleep").line()
    pid = broker.receive(wire.Spawned).pid
    with version.gate() as opened:
        spawner.process.send_signal(signal.SIGHUP)
        opened()
        line = spawner.said.wait_for('"reload-failed"', seconds=60)
        assert "timed out" in line
        assert eventually(lambda: children(spawner.process.pid) == [pid])
    assert broker.children()[uep(1)].pid == pid


def test_term_while_the_spawner_starts_over(version: Version, alice: pwd.struct_passwd) -> None:
    spawner = version.start({})
    broker = spawner.connect()
    broker.spawn(1, alice.pw_name, "daemon").line()
    broker.receive(wire.Spawned)
    with version.gate() as opened:
        spawner.process.send_signal(signal.SIGHUP)
        opened()
        spawner.process.send_signal(signal.SIGTERM)
    assert spawner.process.wait(PATIENCE) == 0
    assert spawner.audit()[-1]["event"] == "stopped"
    assert alive(alice.pw_uid) == set()


def test_an_endpoint_that_is_to_end_keeps_its_deadline(start: Start, alice: pwd.struct_passwd) -> None:
    """The grace between TERM and KILL is that of the policy when TERM was sent."""
    spawner = start({"stop_grace": 15})
    broker = spawner.connect()
    broker.spawn(1, alice.pw_name, "stubborn").line()
    broker.receive(wire.Spawned)
    began = time.monotonic()
    broker.send(wire.Signal(uep(1), "TERM"))
    spawner.said.wait_for('"signal"')
    broker = _reload(spawner, stop_grace=1000)
    assert broker.children()[uep(1)].ended is None or time.monotonic() > began + 15
    assert eventually(lambda: broker.children()[uep(1)].ended == signal.SIGKILL)


class Slow:
    """A PAM service that opens no session before it is told to."""

    def __init__(self, folder: Path) -> None:
        self._fifo, hook, self.began = folder / "go-on", folder / "hook", folder / "began"
        os.mkfifo(self._fifo)
        hook.write_text(
            f'#!/bin/sh\ntest "$PAM_TYPE" = close_session || {{ echo > {self.began}; read x < {self._fifo}; }}\n'
        )
        hook.chmod(0o700)
        self._service = Path(f"/etc/pam.d/twl-{os.getpid()}-{folder.name}")
        rules = [*(f"{kind} required pam_permit.so" for kind in PAM), f"session required pam_exec.so {hook}"]
        self._service.write_text("\n".join(rules) + "\n")
        self.name = self._service.name

    def go_on(self) -> None:
        """Let the sessions be opened."""
        self._fifo.write_text("\n")

    def remove(self) -> None:
        """The service."""
        self._service.unlink()


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Slow]:
    """A PAM service that takes as long as a test wants."""
    service = Slow(tmp_path)
    yield service
    service.remove()


def test_an_endpoint_that_is_starting(start: Start, alice: pwd.struct_passwd, slow: Slow) -> None:
    """Its start is decided first, and its broker told; then the spawner starts over."""
    spawner = start({"pam_service": slow.name})
    broker = spawner.connect()
    output = broker.spawn(1, alice.pw_name, "sleep")
    assert eventually(slow.began.exists)
    before = spawner.said.count()
    spawner.process.send_signal(signal.SIGHUP)
    assert broker.children() == {}
    slow.go_on()
    pid = broker.receive(wire.Spawned).pid
    assert output.line() == "up\n"
    assert broker.hung_up()
    spawner.said.wait_for('"started"', after=before)
    assert spawner.connect().children()[uep(1)].pid == pid


def test_a_start_that_hangs_does_not_stop_a_new_policy(start: Start, alice: pwd.struct_passwd, slow: Slow) -> None:
    spawner = start({"pam_service": slow.name, "exec_timeout": 10})
    broker = spawner.connect()
    broker.spawn(1, alice.pw_name, "sleep")
    assert eventually(slow.began.exists)
    _start_over(spawner)
    assert broker.receive(wire.Refused).stage == "timeout"
    assert broker.hung_up()
    assert spawner.connect().children() == {}


def test_a_broker_cannot_put_off_a_new_policy(start: Start, alice: pwd.struct_passwd, slow: Slow) -> None:
    """By starting one endpoint after the other: none is started until the spawner has started over."""
    spawner = start({"pam_service": slow.name})
    broker = spawner.connect()
    broker.spawn(1, alice.pw_name, "sleep")
    assert eventually(slow.began.exists)
    spawner.process.send_signal(signal.SIGHUP)
    assert broker.children() == {}
    broker.spawn(2, alice.pw_name, "sleep")
    assert broker.receive(wire.Refused).id == uep(2)
    slow.go_on()
    broker.receive(wire.Spawned)


@pytest.mark.cases(2)
@pytest.mark.parametrize("end", ["KILL", "stranger", "spawner"])
@pytest.mark.parametrize("before", ["cgroup", "guards", "pam", "cgroup-pam"])
@pytest.mark.parametrize("after", ["cgroup", "guards", "pam", "cgroup-pam"])
def test_endpoints_are_guarded_as_they_were_started(
    start: Start, alice: pwd.struct_passwd, cgroup: str, plain: str, before: str, after: str, end: str
) -> None:
    """Whatever the new policy says of cgroups and PAM; and new ones as it says."""

    def mode(name: str) -> dict[str, str]:
        return {"cgroup": cgroup * ("cgroup" in name), "pam_service": plain * ("pam" in name)}

    spawner = start(mode(before))
    spawner.cgroup = cgroup
    broker = spawner.connect()
    old = int(broker.spawn(1, alice.pw_name, "daemon").line())
    pid = broker.receive(wire.Spawned).pid
    broker = _reload(spawner, **mode(after))
    new = int(broker.spawn(2, alice.pw_name, "daemon").line())
    broker.receive(wire.Spawned)
    if end == "spawner":
        spawner.process.kill()
        spawner.process.wait(60)
        assert eventually(lambda: not alive(alice.pw_uid))
        return
    if end == "KILL":
        broker.send(wire.Signal(uep(1), "KILL"))
    else:
        os.kill(program(pid), signal.SIGKILL)
    exited = broker.receive(wire.Exited)
    assert (exited.id, exited.status) == (uep(1), signal.SIGKILL)
    assert (lives(old), lives(new)) == (False, True)


def test_a_guard_that_is_killed_takes_nobody_along_who_has_a_cgroup(
    start: Start, alice: pwd.struct_passwd, cgroup: str
) -> None:
    """What such an endpoint has left to itself comes to the spawner, as what a killed guard leaves does."""
    spawner = start({"cgroup": cgroup})
    old = int(spawner.connect().spawn(1, alice.pw_name, "daemon").line())
    assert eventually(lambda: old in children(spawner.process.pid))
    broker = _reload(spawner, cgroup="")
    assert eventually(lambda: len(children(spawner.process.pid)) == 3)  # that, its endpoint and the keeper
    others = children(spawner.process.pid)
    new = int(broker.spawn(2, alice.pw_name, "daemon").line())
    os.kill(broker.receive(wire.Spawned).pid, signal.SIGKILL)
    assert broker.receive(wire.Exited).id == uep(2)
    assert not lives(new)
    assert eventually(lambda: children(spawner.process.pid) == others)
