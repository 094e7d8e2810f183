"""A process that can't be killed, in a file system that doesn't answer: its user may have made that. Nobody waits."""

import contextlib
import os
import pwd
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hanging_home import answer_init, home_that_hangs, take_request
from proc_rig import PATIENCE
from process_trees import eventually, keeper_of
from spawner_rig import PYTHON, Broker, Spawner, Start, gone, uep
from twinlock_wire import wire

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not Path("/dev/fuse").exists(), reason="needs /dev/fuse, for a file system that hangs"),
]

VISIT = """
import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
print("up", flush=True)
signal.sigwait([signal.SIGUSR1])
if os.fork() == 0:
    os.chdir(os.environ["HOME"])
signal.sigwait([signal.SIGUSR1])
"""


def _hold_a_start(spawner: Spawner, user: pwd.struct_passwd, device: int) -> None:
    """Have a start of the user's wait for the file system, where nothing can kill it, and call it off."""
    answer_init(device)
    broker = spawner.connect()
    broker.spawn(1, user.pw_name)
    take_request(device)
    broker.send(wire.Signal(uep(1), "KILL"))
    assert broker.children() == {}  # when this is answered, that was read


def _start_another(broker: Broker, user: pwd.struct_passwd) -> None:
    """One of another user's that isn't concerned."""
    broker.spawn(2, user.pw_name)
    assert broker.receive(wire.Spawned).id == uep(2)
    assert broker.receive(wire.Exited).id == uep(2)


def test_a_start_that_cannot_be_killed_puts_off_no_reload(
    start: Start, alice: pwd.struct_passwd, bob: pwd.struct_passwd, mode: dict[str, str]
) -> None:
    """It is still in the new one's table, which tells its end."""
    spawner = start(mode)
    with home_that_hangs(Path(alice.pw_dir)) as device:
        _hold_a_start(spawner, alice, device)
        before = spawner.said.count()
        spawner.process.send_signal(signal.SIGHUP)
        spawner.said.wait_for('"started"', after=before)
        broker = spawner.connect()
        assert broker.children() == {}
        _start_another(broker, bob)
    assert broker.receive(wire.Refused) == wire.Refused(uep(1), "timeout", "the start took too long, or was called off")


def test_a_process_that_cannot_be_killed_keeps_no_spawner_from_its_end_or_start(
    start: Start, alice: pwd.struct_passwd, bob: pwd.struct_passwd, mode: dict[str, str]
) -> None:
    """Its keeper gives up, too, which the next spawner would wait for."""
    spawner = start(mode)
    keepers = [keeper_of(spawner.process.pid)] if mode else []
    with home_that_hangs(Path(alice.pw_dir)) as device:
        _hold_a_start(spawner, alice, device)
        spawner.process.send_signal(signal.SIGTERM)
        assert spawner.process.wait(PATIENCE) == 0
        assert all(gone(keeper) for keeper in keepers)
        following = start(mode)
        broker = following.connect()
        _start_another(broker, bob)


def test_a_keeper_goes_on_killing_what_dies_late(start: Start, alice: pwd.struct_passwd, cgroup: str) -> None:
    """Only after some seconds it leaves to the next spawner what hasn't died."""
    spawner = start({"cgroup": cgroup})
    keeper = keeper_of(spawner.process.pid)
    with home_that_hangs(Path(alice.pw_dir)) as device:
        _hold_a_start(spawner, alice, device)
        killed = time.monotonic()
        spawner.process.kill()
        spawner.process.wait(PATIENCE)
        assert gone(keeper)
    assert time.monotonic() - killed > 5


def test_an_end_is_told_though_something_is_left_that_cannot_be_killed(
    start: Start, alice: pwd.struct_passwd, cgroup: str
) -> None:
    """But not at once, since most die within seconds. The endpoint can be started again when that is gone."""
    spawner = start({"cgroup": cgroup, "programs": {"visit": [*PYTHON, VISIT]}})
    broker = spawner.connect()
    output = broker.spawn(1, alice.pw_name, "visit")
    pid = broker.receive(wire.Spawned).pid
    assert output.line() == "up\n"
    with home_that_hangs(Path(alice.pw_dir)) as device:
        answer_init(device)
        os.kill(pid, signal.SIGUSR1)
        take_request(device)
        ended = time.monotonic()
        os.kill(pid, signal.SIGUSR1)
        assert broker.receive(wire.Exited) == wire.Exited(uep(1), pid, 0)
        assert time.monotonic() - ended > 5
        broker.send(wire.Noted(uep(1)))
        broker.spawn(1, alice.pw_name, "visit")
        assert "can't be killed yet" in broker.receive(wire.Refused).reason
    assert eventually(
        lambda: not Path(f"{cgroup}/{spawner.process.pid}/u-{alice.pw_name}/{uep(1)}/cgroup.procs").read_text()
    )
    broker.spawn(1, alice.pw_name, "visit")
    broker.receive(wire.Spawned)


@contextlib.contextmanager
def _cores_of_all() -> Iterator[None]:
    """As on hosts that want the memory of whatever crashes: a process that has changed its uid is dumpable, proc(5)."""
    setting = Path("/proc/sys/fs/suid_dumpable")
    before = setting.read_text()
    setting.write_text("1")
    try:
        yield
    finally:
        setting.write_text(before)


def test_nobody_traces_a_start(start: Start, alice: pwd.struct_passwd, cgroup: str) -> None:
    """Until exec the user's process has the spawner's memory. Its owner tells who may look into it."""
    spawner = start({"cgroup": cgroup})
    with home_that_hangs(Path(alice.pw_dir)), _cores_of_all():
        spawner.connect().spawn(1, alice.pw_name)
        procs = Path(f"{cgroup}/{spawner.process.pid}/u-{alice.pw_name}/{uep(1)}/cgroup.procs")
        assert eventually(lambda: procs.exists() and procs.read_text() != "")
        process = Path("/proc", procs.read_text().strip())
        assert eventually(lambda: f"Uid:\t{alice.pw_uid}" in (process / "status").read_text())
        assert eventually(
            lambda: "fuse" in (process / "wchan").read_text() or "request_wait" in (process / "wchan").read_text()
        )
        assert (process / "mem").stat().st_uid == 0
