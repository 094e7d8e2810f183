"""What changes nothing is rationed in the audit log: of a flood a number stays; what takes effect has all its lines."""

import json
import pwd
from collections import Counter
from pathlib import Path

import pytest
from spawner_rig import Spawner, uep
from spawner_versions import Version
from twinlock_spawner import audit
from twinlock_spawner.audit import Audit
from twinlock_wire import wire

pytestmark = pytest.mark.system

RATION = 5000  # lines of one event in a minute, as docs/operate.md has it
MORE = 100


@pytest.fixture
def spawner(version: Version) -> Spawner:
    """One whose minute lasts an hour: a flood may take longer than one on a machine that is busy."""
    version.change("twinlock_spawner/audit.py", _lengthen)
    return version.start({"stop_grace": 1000})


def _lengthen(text: str) -> str:
    assert text.count("_PERIOD = 60.0") == 1
    return text.replace("_PERIOD = 60.0", "_PERIOD = 3600.0")


def test_a_flood_of_refused_requests_leaves_a_number(spawner: Spawner, alice: pwd.struct_passwd) -> None:
    broker = spawner.connect()
    for _ in range(RATION + MORE):
        broker.send(wire.Signal(uep(9), "KILL"))
        assert broker.receive(wire.Refused).stage == "signal"
    broker.spawn(1, alice.pw_name, "sleep").line()
    broker.receive(wire.Spawned)
    broker.send(wire.Signal(uep(1), "TERM"))
    broker.receive(wire.Exited)
    broker.send(wire.Noted(uep(1)))
    assert broker.children() == {}
    spawner.process.terminate()
    spawner.process.wait(60)
    lines = [line for line in spawner.audit() if line["event"] != "refused"]
    assert len(spawner.audit()) == len(lines) + RATION
    events = [line["event"] for line in lines]
    of_a_start = ["spawn", "identity", "spawned", "signal", "exited", "noted"]
    assert events == ["started", "hello", *of_a_start, "list", "left-out", "stopped"]
    assert lines[-2]["refused"] == MORE


def test_a_flood_of_one_event_leaves_room_for_others(spawner: Spawner) -> None:
    broker = spawner.connect()
    for _ in range(RATION + MORE):
        assert broker.children() == {}
    for _ in range(MORE):
        broker.send(wire.Signal(uep(9), "KILL"))
        broker.receive(wire.Refused)
    assert Counter(line["event"] for line in spawner.audit()) == Counter(
        {"started": 1, "hello": 1, "list": RATION, "refused": MORE}
    )


def test_a_signal_is_recorded_and_its_repetition_rationed(spawner: Spawner, alice: pwd.struct_passwd) -> None:
    broker = spawner.connect()
    broker.spawn(1, alice.pw_name, "stubborn").line()
    broker.receive(wire.Spawned)
    for _ in range(1 + RATION + MORE):
        broker.send(wire.Signal(uep(1), "TERM"))
    broker.send(wire.Signal(uep(1), "KILL"))
    broker.receive(wire.Exited)
    signals = Counter(line["signal"] for line in spawner.audit() if line["event"] == "signal")
    assert signals == Counter({"TERM": 1 + RATION, "KILL": 1})


def test_a_number_is_written_when_its_minute_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the next line that is rationed; a minute without a flood leaves nothing."""
    monkeypatch.setattr(audit, "_RATION", 2)
    log = Audit(str(tmp_path / "audit.log"))
    for _ in range(5):
        log.record_repeatable("list")
    monkeypatch.setattr(audit, "_PERIOD", 0.0)
    log.end_period()
    log.record_repeatable("list")
    log.record_repeatable("list")
    lines = [json.loads(line) for line in (tmp_path / "audit.log").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["list", "list", "left-out", "list", "list"]
    assert lines[2]["list"] == 3
