"""The socket: who may speak, and what happens to one who breaks the protocol."""

import json
import os
import pwd
import stat
from pathlib import Path

import msgpack
import pytest
from spawner_rig import MANAGER, Start, uep
from twinlock_shared import wire

pytestmark = pytest.mark.system

SPAWN = wire.encode(wire.Spawn(uep(1), "twl-alice", f"uep.{MANAGER}.{uep(1)}", "sleep"))


def test_only_the_brokers_uid_may_speak(start: Start, alice: pwd.struct_passwd) -> None:
    spawner = start({"broker_user": alice.pw_name})
    assert spawner.connect_raw().hung_up()  # root itself is not the broker
    assert spawner.audit()[-1]["event"] == "connection-refused"


def test_the_socket_is_for_the_brokers_group(start: Start, alice: pwd.struct_passwd) -> None:
    status = (start({"broker_user": alice.pw_name}).folder / "spawner.sock").stat()
    assert stat.S_IMODE(status.st_mode) == 0o660
    assert (status.st_uid, status.st_gid) == (0, alice.pw_gid)


def test_a_second_connection_is_closed(start: Start) -> None:
    spawner = start()
    first = spawner.connect()
    assert spawner.connect_raw().hung_up()
    assert first.children() == {}


@pytest.mark.parametrize(
    ("data", "fds"),
    [
        (b"junk", 0),
        (msgpack.packb({"type": "exec", "argv": ["/bin/sh"]}), 0),
        (SPAWN, 0),
        (SPAWN, 1),
        (SPAWN, 3),
        (SPAWN, 100),
        (wire.encode(wire.List()), 2),
        (msgpack.packb({"type": "list", "pad": "x" * wire.MAX_DATAGRAM}), 0),
    ],
    ids=["junk", "unknown", "no-fds", "one-fd", "three-fds", "hundred-fds", "list-with-fds", "too-long"],
)
def test_a_broken_protocol_ends_the_connection_only(
    start: Start, alice: pwd.struct_passwd, data: bytes, fds: int
) -> None:
    spawner = start()
    broker = spawner.connect()
    broker.spawn(7, alice.pw_name, "sleep").line()
    broker.receive(wire.Spawned)
    before = len(os.listdir(f"/proc/{spawner.process.pid}/fd"))
    broker.send_bytes(data, [0] * fds)
    assert broker.hung_up()
    assert spawner.audit()[-1]["event"] == "disconnected"
    assert list(spawner.connect().children()) == [uep(7)]
    assert len(os.listdir(f"/proc/{spawner.process.pid}/fd")) == before


def test_every_decision_is_in_the_audit_log(start: Start, alice: pwd.struct_passwd) -> None:
    spawner = start()
    broker = spawner.connect()
    broker.spawn(1, alice.pw_name, "fail")
    broker.receive(wire.Spawned)
    broker.receive(wire.Exited)
    broker.spawn(2, "root")
    broker.receive(wire.Refused)
    lines = spawner.audit()
    events = [line["event"] for line in lines]
    assert events == ["started", "connected", "spawn", "spawned", "exited", "spawn", "failed"]
    assert lines[3]["uid"] == alice.pw_uid
    assert stat.S_IMODE((spawner.folder / "audit.log").stat().st_mode) == 0o600


def test_nothing_starts_that_the_audit_log_cannot_hold(start: Start, alice: pwd.struct_passwd) -> None:
    broker = start({"audit_log": "/dev/full"}).connect()
    broker.spawn(1, alice.pw_name, "sleep")
    refused = broker.receive(wire.Refused)
    assert refused.stage == "audit"
    assert broker.children() == {}


def test_root_runs_no_c_parser_and_no_package_but_two(start: Start) -> None:
    spawner = start()
    spawner.connect()
    pid = spawner.process.pid
    maps = Path(f"/proc/{pid}/maps").read_text()
    libraries = {line.split()[-1] for line in maps.splitlines() if "site-packages" in line}
    assert {Path(library).name.partition(".")[0] for library in libraries} == {"_prctl"}
    assert b"-I" in Path(f"/proc/{pid}/cmdline").read_bytes() or "twinlock-spawner" in json.dumps(
        Path(f"/proc/{pid}/cmdline").read_text()
    )
