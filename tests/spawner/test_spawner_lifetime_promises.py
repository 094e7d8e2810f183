"""Parents, orphans, ids and rates: that an endpoint's life is the spawner's business and nobody else's."""

import os
import pwd
import signal
import time
from pathlib import Path

import pytest
from nss_rig import NameService
from proc_rig import children, descriptors, status, until
from spawner_rig import Broker, Start, gone, uep
from twinlock_wire import wire

pytestmark = pytest.mark.system


def test_a_start_whose_spawner_ended_meanwhile_executes_nothing(
    start: Start, names: NameService, alice: pwd.struct_passwd, mode: dict[str, str]
) -> None:
    spawner = start(mode, names.prefix)
    with names.hangs(alice.pw_name):
        output = spawner.connect().spawn(1, alice.pw_name, "sleep")
        child = names.asked_by(spawner.process.pid)
        spawner.process.kill()
        spawner.process.wait(60)
        assert output.rest() == ""
        assert gone(child)


def test_a_start_whose_spawner_ended_and_whose_keeper_did_too_executes_nothing(
    start: Start, names: NameService, alice: pwd.struct_passwd, cgroup: str
) -> None:
    """Nobody is left to end it, but it finds that out before it executes the program."""
    spawner = start({"cgroup": cgroup}, names.prefix)
    keeper = children(spawner.process.pid)
    with names.hangs(alice.pw_name):
        output = spawner.connect().spawn(1, alice.pw_name, "sleep")
        child = names.asked_by(spawner.process.pid)
        for pid in (*keeper, spawner.process.pid):
            os.kill(pid, signal.SIGKILL)
        spawner.process.wait(60)
    assert output.rest() == ""
    assert gone(child)


@pytest.mark.parametrize("pam", [False, True], ids=["alone", "outer"])
def test_a_guard_that_is_killed_in_a_start_leaves_nothing(
    start: Start, names: NameService, alice: pwd.struct_passwd, plain: str, pam: bool
) -> None:
    spawner = start({"pam_service": plain * pam}, names.prefix)
    broker = spawner.connect()
    with names.hangs(alice.pw_name):
        output = broker.spawn(1, alice.pw_name, "sleep")
        child = names.asked_by(spawner.process.pid)
        assert until(lambda: children(spawner.process.pid) == [_parent(child)])
        os.kill(_parent(child), signal.SIGKILL)
        assert output.rest() == ""
        assert gone(child)
        broker.receive(wire.Spawned)  # no reason came for why it shouldn't run
        assert os.waitstatus_to_exitcode(broker.receive(wire.Exited).status) == -signal.SIGKILL
    assert until(lambda: children(spawner.process.pid) == [])


def _parent(pid: int) -> int:
    return int(status(pid)["PPid"])


def test_orphans_come_to_the_spawner_or_their_guard_and_are_reaped_quietly(
    start: Start, alice: pwd.struct_passwd, mode: dict[str, str]
) -> None:
    spawner = start(mode)
    broker = spawner.connect()
    daemon = int(broker.spawn(1, alice.pw_name, "daemon").line())
    spawned = broker.receive(wire.Spawned)
    assert until(lambda: _parent(daemon) in (spawner.process.pid, spawned.pid))
    before = spawner.audit()
    os.kill(daemon, signal.SIGKILL)
    assert until(lambda: not Path(f"/proc/{daemon}").exists())  # a zombie would still be there
    assert broker.children()[uep(1)].ended is None
    assert [line["event"] for line in spawner.audit()[len(before) :]] == ["list"]


def test_a_process_that_was_never_the_spawners_to_start_is_reaped_too(start: Start) -> None:
    """What the program before it, such as a shell, left as its child."""
    spawner = start(prefix=("sh", "-c", 'sleep 0.2 & exec "$@"', "sh"))
    assert until(lambda: not children(spawner.process.pid))
    assert spawner.connect().children() == {}


def test_a_child_keeps_no_descriptor_open(start: Start, alice: pwd.struct_passwd, mode: dict[str, str]) -> None:
    """Each would be copied and closed in each fork, and there would be as many endpoints as descriptors allow."""
    spawner = start(mode)
    broker = spawner.connect()
    before = descriptors(spawner.process.pid)
    broker.spawn(1, alice.pw_name, "sleep").line()
    broker.receive(wire.Spawned)
    assert broker.children()
    assert descriptors(spawner.process.pid) == before


def test_signals_at_any_moment_lose_nothing(start: Start, alice: pwd.struct_passwd) -> None:
    """Handlers set flags only."""
    spawner = start({"start_rate_per_user": 100, "max_children_per_user": 100})
    broker = spawner.connect()
    for number in range(20):
        broker.spawn(number, alice.pw_name, "sleep")
        for _ in range(100):
            spawner.process.send_signal(signal.SIGCHLD)
    for _ in range(20):
        broker.receive(wire.Spawned)
    assert len(broker.children()) == 20


def _starts(broker: Broker, user: str, numbers: range) -> int:
    """How many of these starts are allowed before the first that is not; time allows more."""
    for number in numbers:
        broker.spawn(number, user, "sleep")
        reply = wire.decode(broker.socket.recv(wire.MAX_DATAGRAM), wire.REPLIES)
        if isinstance(reply, wire.Refused):
            assert reply.stage == "rate"
            return number - numbers.start
    return len(numbers)


def test_starts_of_an_account_are_rationed(start: Start, alice: pwd.struct_passwd, bob: pwd.struct_passwd) -> None:
    broker, began = start({"start_rate_per_user": 0.2}).connect(), time.monotonic()
    allowed = _starts(broker, alice.pw_name, range(10))
    assert 4 <= allowed <= 4 + 0.2 * (time.monotonic() - began)  # what 20 seconds allow
    assert _starts(broker, bob.pw_name, range(10, 12)) == 2


def test_starts_in_all_are_rationed(start: Start, alice: pwd.struct_passwd, bob: pwd.struct_passwd) -> None:
    broker, began = start({"start_rate": 0.2}).connect(), time.monotonic()
    assert _starts(broker, alice.pw_name, range(3)) == 3
    allowed = _starts(broker, bob.pw_name, range(3, 10))
    assert 1 <= allowed <= 1 + 0.2 * (time.monotonic() - began)


def test_starts_are_allowed_again_with_time(start: Start, alice: pwd.struct_passwd) -> None:
    broker = start({"start_rate_per_user": 0.5, "max_children_per_user": 1000}).connect()
    assert _starts(broker, alice.pw_name, range(20)) >= 10
    assert until(lambda: _starts(broker, alice.pw_name, range(20, 21)) == 1)


def test_the_least_rate_allows_one_start(start: Start, alice: pwd.struct_passwd) -> None:
    """A rate of 0 would allow none, and can't be divided by."""
    broker, began = start({"start_rate_per_user": 0}).connect(), time.monotonic()
    assert 1 <= _starts(broker, alice.pw_name, range(3)) <= 0.055 * (20 + time.monotonic() - began)


def test_accounts_that_do_not_exist_are_rationed_in_all(start: Start, alice: pwd.struct_passwd) -> None:
    """Each costs a process and a lookup."""
    broker, began = start({"start_rate": 0.2}).connect(), time.monotonic()
    looked_up = 0
    while _stage(broker, f"no-such-{looked_up}") == "lookup":
        looked_up += 1
    assert 4 <= looked_up <= 4 + 0.2 * (time.monotonic() - began)


def _stage(broker: Broker, user: str) -> str:
    """At which stage a start is refused."""
    broker.spawn(1, user)
    return broker.receive(wire.Refused).stage


def test_a_program_that_dies_at_once_costs_more_than_one_start(start: Start, alice: pwd.struct_passwd) -> None:
    lived = 5.0
    while lived >= 5:  # as on a machine on which nothing happens at once
        broker, began = start({"start_rate_per_user": 0.25}).connect(), time.monotonic()  # five at once
        broker.spawn(1, alice.pw_name, "fail")
        broker.receive(wire.Spawned)
        broker.receive(wire.Exited)
        lived = time.monotonic() - began
    assert _starts(broker, alice.pw_name, range(2, 7)) <= 0.25 * (time.monotonic() - began)
