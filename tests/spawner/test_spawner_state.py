"""The state that a spawner hands over to itself when it starts over: taken as it is, or refused in one line."""

import math
import os
import pwd
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack
import pytest
from proc_rig import PATIENCE
from spawner_rig import Broker, write_policy
from twinlock_wire import wire
from wire_rig import SPAWN

SERVE = [sys.executable, "-IS", "-c", f"import sys; sys.path = {sys.path[1:]}; "]
SERVE[-1] += "from twinlock_spawner.__main__ import main; main()"


@dataclass
class Earlier:
    """What an earlier spawner leaves: a listening socket, a child that was reaped, and one that runs."""

    folder: Path
    listener: socket.socket
    reaped: int
    running: int
    policy: bytes

    def row(self, **changes: Any) -> list[Any]:
        """The child that was reaped, but for the changes."""
        values = {"request": SPAWN, "cgroup": "", "kill": 9, "due": math.inf, "pid": self.reaped}
        return [*(values | {"status": 7, "ended": 7} | changes).values()]

    def state(self, *rows: Any) -> bytes:
        """The state with these rows, behind the policy."""
        return self.policy + bytes(msgpack.packb(rows))

    def succeed(self, data: bytes, listener: int | None = None) -> "subprocess.Popen[str]":
        """A spawner that gets the bytes as its state."""
        state = os.memfd_create("state")
        try:
            os.write(state, data)
            third = self.listener.fileno() if listener is None else listener
            handed = [state, third]
            assert 3 not in handed, "it would be replaced"
            code = f"import os; os.dup2({third}, 3); os.execv({SERVE[0]!r}, {[*SERVE, str(state)]})"
            argv = [sys.executable, "-c", code]
            return subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, pass_fds=handed, text=True, cwd="/"
            )
        finally:
            os.close(state)

    def assert_refused(self, data: bytes, listener: int | None = None) -> None:
        """The spawner says so in one line, ends with 111, and hasn't served."""
        with self.succeed(data, listener) as spawner:
            try:
                said = spawner.communicate(timeout=PATIENCE)[1]
            finally:
                spawner.kill()
        assert said.startswith("twinlock-spawner: "), said
        assert said.count("\n") == 1, said
        assert spawner.returncode == 111


def _read(folder: Path) -> bytes:
    """The policy in the folder, as the check of a spawner that starts over writes it."""
    state = os.memfd_create("state")
    try:
        argv = [
            sys.executable,
            "-m",
            "twinlock_spawner",
            "--policy",
            str(folder / "policy.toml"),
            "--check",
            str(state),
        ]
        subprocess.run(argv, pass_fds=[state], check=True, timeout=120)
        return os.pread(state, 1 << 20, 0)
    finally:
        os.close(state)


@pytest.fixture
def earlier(tmp_path: Path) -> Iterator[Earlier]:
    """An earlier spawner's things."""
    paths = {"socket": str(tmp_path / "spawner.sock"), "audit_log": str(tmp_path / "audit.log")}
    write_policy(tmp_path, {"broker_user": pwd.getpwuid(os.getuid()).pw_name} | paths)
    cat = ["/bin/cat"]
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener,
        subprocess.Popen(cat, stdin=subprocess.DEVNULL) as reaped,
        subprocess.Popen(cat, stdin=subprocess.PIPE) as running,
    ):
        listener.bind(str(tmp_path / "spawner.sock"))
        listener.listen(1)
        reaped.wait(60)
        yield Earlier(tmp_path, listener, reaped.pid, running.pid, _read(tmp_path))


@pytest.mark.parametrize("fields", [4, 5])
def test_what_an_earlier_self_left_is_taken_over(earlier: Earlier, fields: int) -> None:
    """Also one of a version whose requests named no command."""
    with earlier.succeed(earlier.state(earlier.row(request=SPAWN[:fields]))) as spawner:
        try:
            assert spawner.stderr is not None
            assert '"started"' in spawner.stderr.readline()
            broker = Broker(earlier.folder / "spawner.sock")
            for version in wire.VERSIONS:
                assert broker.receive(wire.Hello).version == version
            assert broker.children() == {SPAWN.id: wire.Child(SPAWN.id, earlier.reaped, SPAWN.user, SPAWN.name, 7)}
            broker.close()
            spawner.terminate()
            assert spawner.wait(60) == 0
        finally:
            spawner.kill()


@pytest.mark.cases(2)
@pytest.mark.parametrize(
    "data",
    [b"", b"\xc1", b"\x91" * 5000, b"\xdd\xff\xff\xff\xff", *map(msgpack.packb, (None, 7, {}, [3], [3, [], []]))],
)
def test_bytes_that_are_no_state(data: bytes, earlier: Earlier) -> None:
    earlier.assert_refused(data)


def test_more_or_less_than_a_state(earlier: Earlier) -> None:
    data = earlier.state(earlier.row())
    earlier.assert_refused(data[:-1])
    earlier.assert_refused(data + b"\0")
    earlier.assert_refused(earlier.policy)
    rows: list[Any] = [7, None, [], {}, [[]], [{}], {"a": "b"}]
    for row in rows:
        earlier.assert_refused(earlier.state(row))
    earlier.assert_refused(earlier.state(earlier.row()[:-1]))
    earlier.assert_refused(earlier.state([*earlier.row(), None, None]))


def test_listener_that_is_no_socket(earlier: Earlier) -> None:
    with open(os.devnull) as null:
        earlier.assert_refused(earlier.state(earlier.row()), null.fileno())


@pytest.mark.cases(2)
@pytest.mark.parametrize("policy", [None, 7, [], [None, 0, ""], [[], 0, ""], [{}, 0], [{}, 0, "", 0]])
def test_policy_that_is_none(policy: Any, earlier: Earlier) -> None:
    earlier.assert_refused(msgpack.packb(policy) + msgpack.packb([earlier.row()]))


@pytest.mark.cases(2)
@pytest.mark.parametrize(
    "changes",
    [
        {"request": [*SPAWN][:-2]},
        {"request": [*SPAWN, ""]},
        {"request": SPAWN._replace(user="../root")},
        {"request": SPAWN._replace(program="../sh")},
        {"request": "four"},
        {"request": [[], *SPAWN[1:]]},
        {"pid": None},
        {"pid": "1"},
        {"pid": -1},
        {"ended": "7"},
        {"ended": -1},
        {"status": 8},
        {"status": ""},
        {"status": "", "ended": None},
        {"kill": 15},
        {"kill": None},
        {"cgroup": "/sys/fs/cgroup/user.slice"},
        {"cgroup": f"/sys/fs/cgroup/1/{SPAWN.id}"},
        {"cgroup": 7},
        {"due": math.nan},
        {"due": "soon"},
        {"failure": ["timeout"]},
        {"failure": ["no stage", "a reason"]},
        {"failure": 7},
    ],
)
def test_row_that_is_no_child(changes: dict[str, Any], earlier: Earlier) -> None:
    earlier.assert_refused(earlier.state(earlier.row(**changes)))


def test_a_process_that_is_no_child(earlier: Earlier) -> None:
    """It could be anybody's, and would be killed with the spawner."""
    for pid in (earlier.running, earlier.reaped, os.getpid(), 1, 0, 2**31 - 1):
        earlier.assert_refused(earlier.state(earlier.row(pid=pid, status=None, ended=None)))
