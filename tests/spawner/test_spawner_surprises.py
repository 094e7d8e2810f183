"""What nobody foresaw, at each place of the loop: it ends one request, connection or endpoint, and nothing else."""

import os
import pwd
import shutil
import signal
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from proc_rig import status, until
from process_trees import lives, program
from spawner_rig import MANAGER, Broker, Spawner, Start, sealed, uep
from spawner_versions import Version
from twinlock_wire import wire

pytestmark = pytest.mark.system

BYSTANDER, VICTIM, OTHER = 7, 2, 3
SPAWN = "twinlock_spawner"


class Surprise:
    """A version of the spawner in which something goes wrong at one line, for as long as a file is there."""

    def __init__(self, version: Version, flag: Path, module: str, line: str, when: str = "True") -> None:
        self._flag = flag

        def change(text: str) -> str:
            assert text.count(line) == 1, line
            head, _, tail = text.partition(line)
            space = " " * (len(head) - len(head.rstrip(" ")))
            raising = f"if os.path.exists({str(flag)!r}) and {when}:\n{space}    raise KeyError('a surprise')\n{space}"
            return head + raising + line + tail

        version.change(f"{SPAWN}/{module}.py", change)

    def begin(self) -> None:
        """It goes wrong from now on."""
        self._flag.touch()

    def end(self) -> None:
        """It doesn't any more."""
        self._flag.unlink()


def _run(broker: Broker, user: str, number: int) -> int:
    """Have an endpoint started that waits for its end; its pid."""
    assert broker.spawn(number, user, "sleep").line() == "up\n"
    return broker.receive(wire.Spawned).pid


def _provoke(spawner: Spawner, user: str, pid: int) -> None:
    """Do something of everything: connect, start, list, signal, forget, and have an endpoint end."""
    os.kill(program(pid), signal.SIGKILL)
    requests = (wire.List(), wire.Noted(uep(99)), wire.Signal(uep(OTHER), "KILL"))
    with suppress(OSError, wire.WireError):
        broker = spawner.connect_raw()
        broker.spawn(1, user, "sleep")
        for request in requests:
            broker.send(request)


@pytest.mark.cases(2)
@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("server", "connection, _ = self._listener.accept()"),
        ("server", "peer = self._check_peer(connection)"),
        ("server", "request = _read(connection, peer, files)"),
        ("server", "match request:"),
        ("server", "rows = self.children.rows()"),
        ("children", "user = request.user"),
        ("children", "self._rates.pay(EVERYBODY, self._policy.start_rate)"),
        ("children", "self._audit.record(type(reply)"),
        ("children", "said = report.recv("),
        ("children", "child.due = time.monotonic() + _KILL_AGAIN"),
        ("children", "sessions = {os.getsid(0)"),
        ("children", "child.state = State.ENDED"),
        ("kernel", "pid, status = os.waitpid(-1, os.WNOHANG)"),
    ],
)
def test_a_surprise_ends_what_it_is_about_alone(
    version: Version, tmp_path: Path, alice: pwd.struct_passwd, module: str, line: str
) -> None:
    surprise = Surprise(version, tmp_path / "flag", module, line)
    spawner = version.start({"exec_timeout": 20, "start_rate_per_user": 1000})
    broker = spawner.connect()
    bystander = _run(broker, alice.pw_name, BYSTANDER)
    victim = _run(broker, alice.pw_name, VICTIM)
    _run(broker, alice.pw_name, OTHER)
    surprise.begin()
    _provoke(spawner, alice.pw_name, victim)
    spawner.said.wait_for("a surprise")
    surprise.end()

    broker = _connect(spawner)
    assert until(lambda: broker.children()[uep(VICTIM)].ended is not None)
    assert broker.children()[uep(BYSTANDER)].ended is None
    assert lives(program(bystander))
    broker.close()
    broker = _connect(spawner)
    assert until(lambda: _starts_again(broker, alice.pw_name))  # a start that didn't come to its end is given up


def _connect(spawner: Spawner) -> Broker:
    """A connection on which the spawner answers."""
    connections: list[Broker] = []

    def answers() -> bool:
        with suppress(OSError, wire.WireError):
            connections.append(spawner.connect())
            connections[-1].children()
            return True
        return False

    assert until(answers)
    return connections[-1]


def _starts_again(broker: Broker, user: str) -> bool:
    """Whether the endpoint that was started meanwhile can be ended and started."""
    broker.send(wire.Signal(uep(1), "KILL"))
    broker.send(wire.Noted(uep(1)))
    broker.spawn(1, user, "sleep")
    while True:
        reply = wire.decode(broker.socket.recv(wire.MAX_DATAGRAM), wire.REPLIES)
        if reply[0] == uep(1) and isinstance(reply, wire.Spawned):
            return True
        if reply[0] == uep(1) and reply[1] in {"duplicate", "rate"}:
            return False


def test_a_surprise_in_a_request_ends_the_connection(version: Version, tmp_path: Path) -> None:
    """What the broker's next request would meet is as unforeseen."""
    surprise = Surprise(version, tmp_path / "flag", "server", "rows = self.children.rows()")
    spawner = version.start({})
    broker = spawner.connect()
    surprise.begin()
    broker.send(wire.List())
    assert broker.hung_up()
    surprise.end()
    assert spawner.audit()[-1]["reason"] == "KeyError('a surprise')"
    assert spawner.connect().children() == {}


def test_nobody_waits_for_an_endpoint_that_cannot_be_looked_after(
    version: Version, tmp_path: Path, alice: pwd.struct_passwd
) -> None:
    surprise = Surprise(
        version, tmp_path / "flag", "children", "child.state = State.ENDED", f"child.request.id == {uep(VICTIM)!r}"
    )
    spawner = version.start({})
    broker = spawner.connect()
    victim, other = (_run(broker, alice.pw_name, number) for number in (VICTIM, OTHER))
    surprise.begin()
    os.kill(program(victim), signal.SIGKILL)
    spawner.said.wait_for("a surprise")
    os.kill(program(other), signal.SIGKILL)
    assert broker.receive(wire.Exited).id == uep(OTHER)
    surprise.end()
    assert broker.receive(wire.Exited).id == uep(VICTIM)


def test_an_end_that_is_not_heard_of_at_once_is_heard_of(
    version: Version, tmp_path: Path, alice: pwd.struct_passwd
) -> None:
    """Nothing else happens then that would wake the spawner up."""
    surprise = Surprise(version, tmp_path / "flag", "kernel", "pid, status = os.waitpid(-1, os.WNOHANG)")
    spawner = version.start({})
    broker = spawner.connect()
    pid = _run(broker, alice.pw_name, VICTIM)
    surprise.begin()
    os.kill(program(pid), signal.SIGKILL)
    spawner.said.wait_for("a surprise")
    surprise.end()
    assert broker.receive(wire.Exited).id == uep(VICTIM)


def test_what_goes_wrong_again_and_again_keeps_no_processor_busy(version: Version, tmp_path: Path) -> None:
    """A connection that can't be accepted waits at the door, and the spawner sees it again each time."""
    surprise = Surprise(version, tmp_path / "flag", "server", "connection, _ = self._listener.accept()")
    spawner = version.start({})
    surprise.begin()
    began, before = time.monotonic(), spawner.said.count()
    waiting = Broker(spawner.socket)
    assert until(lambda: spawner.said.count() > before + 5)
    assert "a surprise" in spawner.said.last(1)[0]
    assert (spawner.said.count() - before) / (time.monotonic() - began) < 100  # ten a second, and not ten thousand
    surprise.end()
    waiting.hear_hello()
    assert waiting.children() == {}
    waiting.close()


def test_a_reload_that_goes_wrong_changes_nothing(version: Version, tmp_path: Path, alice: pwd.struct_passwd) -> None:
    surprise = Surprise(version, tmp_path / "flag", "reload", "policy = _check_installed(state, path)")
    spawner = version.start({})
    broker = spawner.connect()
    _run(broker, alice.pw_name, BYSTANDER)
    surprise.begin()
    spawner.process.send_signal(signal.SIGHUP)
    assert "a surprise" in spawner.said.wait_for('"reload-failed"')
    surprise.end()
    assert broker.children()[uep(BYSTANDER)].ended is None


def test_a_descriptor_whose_close_fails_is_its_senders_affair(start: Start, alice: pwd.struct_passwd) -> None:
    """EIO and EDQUOT come from file systems that write when a file is closed: NFS, FUSE."""
    if not shutil.which("strace"):
        pytest.skip("needs strace")
    quietly = ("strace", "--daemonize", "--follow-forks", "--quiet=all", "-o", "/dev/null")
    spawner = start({}, (*quietly, "--trace-path=/dev/full", "--trace=close", "--inject=close:error=EIO"))
    broker = spawner.connect()
    _run(broker, alice.pw_name, BYSTANDER)
    with Path("/dev/full").open("wb", buffering=0) as full:
        request = wire.encode(wire.Spawn(uep(1), alice.pw_name, f"uep.{MANAGER}.{uep(1)}", "sleep"))
        broker.send_bytes(request, [full.fileno()] * 2)
        assert broker.receive(wire.Refused).stage == "stdio"
        broker.send_bytes(wire.encode(wire.List()), [full.fileno()])
        assert broker.hung_up()
    assert spawner.connect().children()[uep(BYSTANDER)].ended is None


LINGER = 120


@pytest.fixture
def lingering() -> Iterator[list[int]]:
    """A socket whose last close(2) takes `LINGER` seconds, since what is to be sent there is never taken."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        sender = socket.create_connection(listener.getsockname())
        stack.enter_context(listener.accept()[0])
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("2i", 1, LINGER))
        sender.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                sender.send(bytes(1 << 16))
        files = [sender.detach()]
        yield files
        for file in files:
            os.close(file)


@pytest.mark.parametrize("place", ["stdin", "refused", "third", "unread", "unread at a reload"])
def test_nothing_that_lingers_is_waited_for(
    start: Start, alice: pwd.struct_passwd, lingering: list[int], place: str
) -> None:
    """Neither what a request brings, nor what lies unread in a connection that ends."""
    spawner = start()
    broker = spawner.connect()
    _run(broker, alice.pw_name, BYSTANDER)
    number = BYSTANDER if place == "refused" else 1  # twice the same is refused without a process that has copies
    request = wire.encode(wire.Spawn(uep(number), alice.pw_name, f"uep.{MANAGER}.{uep(number)}", "sleep"))
    document = sealed()
    began = time.monotonic()
    spawner.process.send_signal(signal.SIGSTOP)  # until only the spawner has the socket
    assert until(lambda: status(spawner.process.pid)["State"].startswith("T"))
    if place == "unread":
        broker.send_bytes(b"junk", [])
    elif place == "unread at a reload":
        spawner.process.send_signal(signal.SIGHUP)
        for _ in range(3):  # one is read before it starts over
            broker.send(wire.List())
    if place == "third":
        broker.send_bytes(request, [document, document, *lingering])
    else:
        broker.send_bytes(request, [*lingering, document])
    os.close(lingering.pop())
    spawner.process.send_signal(signal.SIGCONT)
    os.close(document)
    if place == "stdin":
        assert broker.receive(wire.Refused).stage == "stdio"
    elif place == "refused":
        assert broker.receive(wire.Refused).stage == "duplicate"
    else:
        assert _ends(broker)
    assert spawner.connect().children()[uep(BYSTANDER)].ended is None
    assert time.monotonic() - began < LINGER


def test_who_has_a_copy_of_what_lingers_waits_for_the_spawners_close(start: Start, lingering: list[int]) -> None:
    """That comes late here, behind the close of another file: the copy would be gone, and the spawner's the last."""
    if not shutil.which("strace"):
        pytest.skip("needs strace")
    quietly = ("strace", "--daemonize", "--quiet=all", "-o", "/dev/null")
    spawner = start({}, (*quietly, "--trace-path=/dev/full", "--trace=close", "--inject=close:delay_enter=2000000"))
    broker = spawner.connect()
    request = wire.encode(wire.Spawn(uep(1), "root", f"uep.{MANAGER}.{uep(1)}", "sleep"))
    spawner.process.send_signal(signal.SIGSTOP)  # until only the spawner has the socket
    with Path("/dev/full").open("wb", buffering=0) as full:
        broker.send_bytes(request, [full.fileno(), *lingering])
    os.close(lingering.pop())
    spawner.process.send_signal(signal.SIGCONT)
    assert broker.receive(wire.Refused).stage == "stdio"
    assert broker.children() == {}


def test_no_guard_waits_for_the_close_of_what_lingers(start: Start, lingering: list[int]) -> None:
    """Its close comes late here, when all others have closed the file. Who ends doesn't wait, but a guard goes on."""
    if not shutil.which("strace"):
        pytest.skip("needs strace")
    quietly = ("strace", "--daemonize", "--follow-forks", "--quiet=all", "-o", "/dev/null")
    spawner = start({}, (*quietly, "--trace=close_range", "--inject=close_range:delay_enter=1000000"))
    broker = spawner.connect()
    request = wire.encode(wire.Spawn(uep(1), "root", f"uep.{MANAGER}.{uep(1)}", "sleep"))
    spawner.process.send_signal(signal.SIGSTOP)  # until only the spawner has the socket
    document = sealed()
    broker.send_bytes(request, [*lingering, document])
    os.close(document)
    os.close(lingering.pop())
    spawner.process.send_signal(signal.SIGCONT)
    assert broker.receive(wire.Refused).stage == "stdio"
    assert broker.children() == {}


def _ends(broker: Broker) -> bool:
    """Whether the connection ends, whatever is said before."""
    with suppress(ConnectionError):
        while broker.socket.recv(wire.MAX_DATAGRAM):
            pass
    return True
