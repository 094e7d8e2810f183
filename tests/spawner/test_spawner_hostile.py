"""A broker that was taken over tries what it can at the socket, and gets lines in the audit log for it, no more."""

import contextlib
import errno
import fcntl
import os
import pwd
import random
import select
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgpack
import pytest
from nss_rig import NameService
from proc_rig import descriptors, resident, status, until
from spawner_rig import MANAGER, UNMEASURED, Broker, Spawner, Start, sealed, uep
from twinlock_wire import wire

pytestmark = pytest.mark.system

HONEST = 7  # the number of an endpoint that runs through all of it
LIST = wire.encode(wire.List())
F_SEAL_FUTURE_WRITE = 0x10  # linux/fcntl.h; Python doesn't have it
NOBODYS = wire.encode(wire.Signal(uep(9), "KILL"))


def _spawn(user: str, number: int = 1, program: str = "sleep") -> bytes:
    return wire.encode(wire.Spawn(uep(number), user, f"uep.{MANAGER}.{uep(number)}", program))


def _received(broker: Broker) -> bool:
    with contextlib.suppress(ConnectionError, TimeoutError):
        return broker.socket.recv(wire.MAX_DATAGRAM) != b""
    return False


def _settle(broker: Broker) -> None:
    """Wait until all that was sent has been carried out."""
    broker.send(wire.List())
    while not isinstance(wire.decode(broker.socket.recv(wire.MAX_DATAGRAM), wire.REPLIES), wire.Children):
        pass


class Siege:
    """A spawner with one endpoint, and how it was before anybody was hostile to it."""

    def __init__(self, spawner: Spawner, user: str) -> None:
        self.spawner, self._user = spawner, user
        self._descriptors = set(descriptors(spawner.process.pid))
        broker = spawner.connect()
        broker.spawn(HONEST, user, "sleep").line()
        self._endpoint = broker.receive(wire.Spawned).pid
        self._work_honestly(broker)
        broker.close()
        spawner.said.wait_for("disconnected")
        assert until(lambda: self._connections() == 0)
        self._resident = resident(spawner.process.pid)
        self._lines = len(spawner.audit())

    def events(self) -> list[str]:
        """What the audit log has to say about the time since then."""
        return [line["event"] for line in self.spawner.audit()[self._lines :]]

    def connect(self) -> Broker:
        """A connection that is the only one: a hostile broker's earlier ones may take a moment to be closed."""
        connections: list[Broker] = []

        def heard() -> bool:
            connections.append(self.connect_raw())
            return all(_received(connections[-1]) for _ in wire.VERSIONS)

        assert until(heard)
        return connections[-1]

    def connect_raw(self) -> Broker:
        """A connection from which nothing has been read; more than the spawner's backlog wait here."""
        connections: list[Broker] = []

        def connected() -> bool:
            with contextlib.suppress(BlockingIOError):
                connections.append(self.spawner.connect_raw())
            return bool(connections)

        assert until(connected), "the spawner accepts no connection"
        return connections[0]

    def hangs_up(self, data: bytes, fds: list[int] | None = None) -> bool:
        """Whether a datagram on a connection of its own costs the connection."""
        broker = self.connect()
        broker.send_bytes(data, fds or [])
        hung_up = broker.hung_up()
        broker.close()
        return hung_up

    def flood(self, data: bytes, count: int, fds: list[int] | None = None) -> None:
        """Send it so many times, on a new connection each time that one is closed; the replies are read."""
        broker = self.connect()
        for _ in range(count):
            try:
                broker.send_bytes(data, fds or [])
            except ConnectionError:
                broker.close()
                broker = self.connect()
            while select.select([broker.socket], [], [], 0)[0] and _received(broker):
                pass
        with contextlib.suppress(ConnectionError, wire.WireError):  # it was hung up on
            _settle(broker)
        broker.close()

    def lift(self, started: int = 0) -> None:
        """Nothing has changed but the log, which shows `started` starts; an honest broker is served."""
        events = self.events()
        assert (events.count("identity"), events.count("spawned")) == (started, started)
        assert self.spawner.process.poll() is None
        assert until(lambda: set(descriptors(self.spawner.process.pid)) == self._descriptors)
        assert resident(self.spawner.process.pid) < self._resident + 2048
        assert not status(self._endpoint)["State"].startswith("Z")
        broker = self.connect()
        assert broker.children()[uep(HONEST)].ended is None
        self._work_honestly(broker)

    def _work_honestly(self, broker: Broker) -> None:
        broker.spawn(8, self._user, "fail")
        broker.receive(wire.Spawned)
        broker.receive(wire.Exited)
        broker.send(wire.Noted(uep(8)))
        assert list(broker.children()) == [uep(HONEST)]

    def _connections(self) -> int:
        return sum("socket:" in link for link in descriptors(self.spawner.process.pid).values()) - 1


@pytest.fixture
def siege(start: Start, alice: pwd.struct_passwd, mode: dict[str, str]) -> Siege:
    return Siege(start(mode | {"start_rate_per_user": 1000}), alice.pw_name)


@pytest.fixture
def swift(start: Start, alice: pwd.struct_passwd, mode: dict[str, str]) -> Siege:
    """One whose spawner is as fast as at a site."""
    return Siege(start(mode, UNMEASURED), alice.pw_name)


@pytest.mark.cases(1)
@pytest.mark.parametrize("data", [LIST, NOBODYS, wire.encode(wire.Noted(uep(9)))], ids=["list", "signal", "noted"])
def test_a_flood_of_requests(swift: Siege, data: bytes) -> None:
    swift.flood(data, 20_000)
    swift.lift()


@pytest.mark.thorough
def test_a_flood_of_starts_for_root(start: Start, alice: pwd.struct_passwd, mode: dict[str, str]) -> None:
    """Each is refused: by its child, or when they are too many, without one. For all to have one would take minutes."""
    siege = Siege(start(mode | {"start_rate_per_user": 10}), alice.pw_name)
    with _stdio() as files:
        siege.flood(_spawn("root"), 2_000, files)
    assert until(lambda: siege.events().count("refused") == 2_000)
    assert 0 < siege.events().count("spawn") < 2_000  # these have a child
    siege.lift()


def test_a_flood_of_junk(siege: Siege) -> None:
    siege.flood(b"\xc1", 1_000)
    assert len(siege.events()) < 4 * 1_000  # no more than a few lines each
    siege.lift()


@pytest.mark.cases(1)
def test_half_messages(siege: Siege) -> None:
    data = _spawn("root")
    for length in range(1, len(data)):
        assert siege.hangs_up(data[:length], [0, 1])
    siege.lift()


@pytest.mark.cases(1)
def test_messages_with_errors(siege: Siege) -> None:
    """A few bytes changed, doubled, left out."""
    chance = random.Random(7)
    for _ in range(500):
        data = bytearray(_spawn("root"))
        for _ in range(chance.randint(1, 4)):
            place = chance.randrange(len(data))
            data[place : place + chance.randint(0, 2)] = chance.randbytes(chance.randint(0, 2))
        if data and bytes(data) != _spawn("root"):
            siege.hangs_up(bytes(data), [0, 1])
    siege.lift()


@pytest.mark.cases(2)
@pytest.mark.parametrize("data", [_spawn("root"), LIST, NOBODYS, b"\xc1"], ids=["spawn", "list", "signal", "junk"])
def test_descriptors_by_the_hundred(siege: Siege, data: bytes) -> None:
    for count in (3, 100, 253):  # 253 are the most that one message can carry, SCM_MAX_FD
        assert siege.hangs_up(data, [0] * count)
    siege.lift()


@contextlib.contextmanager
def _stdio() -> Iterator[list[int]]:
    """What an honest broker sends with a start."""
    reader, output = os.pipe()
    files = [sealed(), output]
    yield files
    for fd in (*files, reader):
        os.close(fd)


def _memory(seals: int) -> int:
    fd = os.memfd_create("memory", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


@contextlib.contextmanager
def _odd_descriptors() -> Iterator[dict[str, int]]:
    """Of many kinds, by name."""
    with contextlib.ExitStack() as stack:

        def kept(fd: int) -> int:
            stack.callback(os.close, fd)
            return fd

        terminal, user_side = os.openpty()
        reader, writer = os.pipe()
        left, right = socket.socketpair()
        stack.enter_context(left)
        stack.enter_context(right)
        listener = stack.enter_context(socket.socket())
        listener.listen()
        kept(reader)
        os.close(writer)
        yield {
            "folder": kept(os.open("/", os.O_RDONLY)),
            "path": kept(os.open("/etc/shadow", os.O_PATH)),
            "terminal": kept(terminal),
            "terminal's user side": kept(user_side),
            "epoll": stack.enter_context(select.epoll()).fileno(),
            "event": kept(os.eventfd(0)),
            "pidfd": kept(os.pidfd_open(1)),
            "memory of a process": kept(os.open("/proc/self/mem", os.O_RDWR)),
            "pipe without writer": reader,
            "memory": kept(os.memfd_create("memory")),
            "memory that may grow": kept(_memory(fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK)),
            "memory that may shrink": kept(_memory(fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW)),
            "memory that may be written to": kept(_memory(fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)),
            "memory to which no more is written but by those who do": kept(_memory(F_SEAL_FUTURE_WRITE)),
            "file": kept(os.open(Path(__file__), os.O_RDONLY)),
            "socket": left.fileno(),
            "listening socket": listener.fileno(),
            "full device": kept(os.open("/dev/full", os.O_RDWR)),
            "zeros": kept(os.open("/dev/zero", os.O_RDWR)),
        }


@pytest.mark.cases(1)
def test_descriptors_of_odd_kinds(siege: Siege, alice: pwd.struct_passwd) -> None:
    """An endpoint gets a memfd that nobody can change, a pipe to write to, and nothing else."""
    with _odd_descriptors() as odd, _stdio() as (stdin, output):
        for fd in odd.values():
            assert siege.hangs_up(NOBODYS, [fd])
            broker = siege.connect()
            for received in (fd, broker.socket.fileno()):
                for files in ([received, output], [stdin, received], [received, received], [output, stdin]):
                    broker.send_bytes(_spawn(alice.pw_name), files)
                    assert broker.receive(wire.Refused).stage == "stdio"
            broker.close()
    siege.lift()


def test_a_connection_that_carries_itself(siege: Siege) -> None:
    """Sockets in flight that refer to themselves are the kernel's to find (unix(7))."""
    for _ in range(20):
        broker = siege.connect()
        with contextlib.suppress(ConnectionError):
            for _ in range(20):
                broker.send_bytes(LIST, [broker.socket.fileno()] * 100)
        broker.close()
    siege.lift()


def _send_most(broker: Broker, data: bytes) -> None:
    """As much of it as the kernel takes for one datagram: 4 MiB, even where a buffer of 64 MiB is forced."""
    broker.socket.setsockopt(socket.SOL_SOCKET, 32, 2**26)  # SO_SNDBUFFORCE, socket(7)
    try:
        broker.send_bytes(data, [])
    except OSError as error:
        if error.errno != errno.ENOBUFS:
            raise
        _send_most(broker, data[: len(data) // 2])


def test_datagrams_of_16_mebibytes(siege: Siege) -> None:
    for data in (b"\xc1" * 2**24, LIST + bytes(2**24), msgpack.packb({"type": "list", "x": b"x" * 2**24})):
        broker = siege.connect()
        _send_most(broker, data)
        assert broker.hung_up()
        broker.close()
    siege.lift()


def test_empty_datagrams(siege: Siege) -> None:
    for fds in ([], [0], [0, 1], [0] * 100):
        assert siege.hangs_up(b"", fds)
    siege.lift()


@pytest.mark.parametrize("data", [LIST, NOBODYS], ids=["list", "signal"])
def test_replies_that_are_never_read(siege: Siege, data: bytes) -> None:
    """They don't pile up in root's memory, nor does it wait: it hangs up."""
    broker = siege.connect()
    with contextlib.suppress(ConnectionError):
        for _ in range(100_000):
            broker.send_bytes(data, [])
        pytest.fail("all were answered")
    broker.close()
    siege.lift()


@pytest.mark.cases(1)
def test_a_thousand_connections(siege: Siege) -> None:
    for _ in range(1_000):
        siege.connect_raw().close()
    assert until(lambda: len([event for event in siege.events() if event in {"hello", "connection-refused"}]) == 1_000)
    assert len(siege.events()) < 4 * 1_000
    siege.lift()


@pytest.mark.thorough
def test_a_thousand_connections_in_place_of_each_other(siege: Siege) -> None:
    connections = [siege.connect()]
    for _ in range(1_000):
        connections.append(siege.connect())
        former = connections.pop(0)
        assert former.hung_up()
        former.close()
    assert list(connections[0].children()) == [uep(HONEST)]
    connections[0].close()
    siege.lift()


@pytest.mark.cases(2)
@pytest.mark.parametrize("half", [socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR])
def test_a_connection_that_is_half_closed(siege: Siege, half: int) -> None:
    for data in (LIST, NOBODYS):
        broker = siege.connect()
        broker.send_bytes(data, [])
        broker.socket.shutdown(half)
        broker.close()
    siege.lift()


def test_going_away_in_the_middle_of_a_start(siege: Siege, alice: pwd.struct_passwd) -> None:
    """What was heard goes on, and the next broker finds it in the table."""
    for number in range(100, 110):
        broker = siege.connect()
        broker.spawn(number, alice.pw_name, "sleep")
        broker.close()
    siege.connect().close()
    assert until(lambda: siege.events().count("spawned") == siege.events().count("spawn"))
    broker = siege.connect()
    heard = [ident for ident in broker.children() if ident not in (uep(7), uep(8), uep(HONEST))]
    assert heard
    for ident in heard:
        broker.send(wire.Signal(ident, "KILL"))
        broker.receive(wire.Exited)
        broker.send(wire.Noted(ident))
    broker.close()
    siege.lift(started=len(heard))


def _process_with(pid: int) -> "subprocess.Popen[bytes] | None":
    """A process under a pid of the test's choice, if nobody was quicker (pid_namespaces(7), ns_last_pid).

    Afterwards the kernel goes on where it was: tests beside this one may wait until nobody has a pid any more.
    """
    last = Path("/proc/sys/kernel/ns_last_pid")
    before = last.read_text()
    last.write_text(str(pid - 1))
    try:
        process = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    finally:
        last.write_text(before)
    if process.pid == pid:
        return process
    process.communicate()
    return None


def test_a_pid_that_was_used_again_is_not_signalled(siege: Siege, alice: pwd.struct_passwd) -> None:
    broker = siege.connect()
    for number in range(100, 120):
        broker.spawn(number, alice.pw_name, "fail")
        pid = broker.receive(wire.Spawned).pid
        broker.receive(wire.Exited)
        victim = _process_with(pid)
        if victim:
            break
    assert victim, "each pid was taken by others"
    kill, term = wire.Signal(uep(number), "KILL"), wire.Signal(uep(number), "TERM")
    try:
        for request in (kill, term, wire.Noted(uep(number)), kill, term):
            broker.send(request)
            _settle(broker)
        victim.communicate()
        assert victim.returncode == 0, "a signal came before the end of its stdin"
    finally:
        victim.kill()
        victim.wait()
    for other in range(100, number):
        broker.send(wire.Noted(uep(other)))
    broker.close()
    siege.lift(started=number - 99)


def test_a_table_that_is_full(start: Start, alice: pwd.struct_passwd) -> None:
    spawner = start({"max_children": 50, "max_children_per_user": 50, "start_rate_per_user": 50})
    broker = spawner.connect()
    for number in range(50):
        broker.spawn(number, alice.pw_name, "sleep")
        broker.receive(wire.Spawned)
    before = len(spawner.audit())
    broker.spawn(50, alice.pw_name, "sleep")
    assert broker.receive(wire.Refused).stage == "limit"
    assert len(broker.children()) == 50
    assert len(spawner.audit()) - before < 10


@pytest.mark.parametrize("word", ["TERM", "KILL"])
def test_a_start_that_is_called_off_is_not_said_to_run(
    start: Start, alice: pwd.struct_passwd, names: NameService, mode: dict[str, str], word: str
) -> None:
    """And it ends at once: what isn't executed yet has nothing to do first."""
    spawner = start({"stop_grace": 1000, "exec_timeout": 1000} | mode, names.prefix)
    broker = spawner.connect()
    with names.hangs(alice.pw_name):
        broker.spawn(1, alice.pw_name, "sleep")
        broker.send(wire.Signal(uep(1), word))
        broker.receive(wire.Refused)
    assert broker.children() == {}
    assert not [line for line in spawner.audit() if line["event"] in {"spawned", "exited"}]
