"""The broker's connection belongs to the process that made it, whoever else may have a descriptor of it."""

import os
import pwd
import shutil
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from proc_rig import children, status, until
from process_trees import program
from spawner_rig import MANAGER, Broker, Output, Spawner, Start, acting_as, uep
from twinlock_wire import wire

pytestmark = pytest.mark.system

HELPERS = Path(__file__).parents[1] / "helpers"

# A broker that starts two endpoints, gives its connection to another process, and ends; what that does, it is told.
GIVEN_AWAY = """
import os, socket, sys
from spawner_rig import Broker, sealed, uep
from twinlock_wire import wire

def become(uid, gid):
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)

path, fifo, user, manager = sys.argv[1:5]
broker_uid, broker_gid, uid, gid = map(int, sys.argv[5:])
ours, theirs = socket.socketpair()
if os.fork() == 0:
    become(broker_uid, broker_gid)
    broker = Broker(path)
    broker.hear_hello()
    for number, name in ((1, "late"), (2, "fail")):
        request = wire.Spawn(uep(number), user, f"uep.{manager}.{uep(number)}", name)
        broker.send(request, [sealed(), os.open(fifo, os.O_RDWR)])
        broker.receive(wire.Spawned)
    broker.receive(wire.Exited)
    socket.send_fds(theirs, [b"."], [broker.socket.fileno()])
    os._exit(0)
os.wait()
theirs.close()
_, [file], _, _ = socket.recv_fds(ours, 1, 1)
become(uid, gid)
held = socket.socket(fileno=file)
held.settimeout(60)
print("held", flush=True)
for line in sys.stdin:
    if line == "send\\n":
        held.send(wire.encode(wire.Signal(uep(1), "KILL")))
        continue
    try:
        said = held.recv(1)
    except ConnectionError:
        said = b""
    print("open" if said else "closed", flush=True)
"""


class Given:
    """A process that holds a connection which the broker made, and gave to it."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        assert self._hear() == "held\n"

    def send(self) -> None:
        """Have it ask for an endpoint to be killed."""
        self._say("send")

    def sees_the_end(self) -> bool:
        """Whether the connection ends, which is waited for."""
        self._say("wait")
        return self._hear() == "closed\n"

    def _say(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()

    def _hear(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


@pytest.fixture
def give(
    alice: pwd.struct_passwd, bob: pwd.struct_passwd
) -> Iterator[Callable[[Spawner, pwd.struct_passwd, Path], Given]]:
    """Have a broker, which is Alice's, start two endpoints of Bob's and give its connection to somebody."""
    with ExitStack() as stack:

        def give(spawner: Spawner, holder: pwd.struct_passwd, fifo: Path) -> Given:
            ids = [str(number) for account in (alice, holder) for number in (account.pw_uid, account.pw_gid)]
            argv = [sys.executable, "-c", GIVEN_AWAY, str(spawner.socket), str(fifo), bob.pw_name, MANAGER, *ids]
            process = stack.enter_context(
                subprocess.Popen(
                    argv,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    env={**os.environ, "PYTHONPATH": f"{HELPERS}:{HELPERS.parents[1] / 'testbed'}"},
                )
            )
            stack.callback(process.kill)
            return Given(process)

        yield give


def test_a_broker_is_replaced_while_another_process_has_its_connection(
    start: Start,
    alice: pwd.struct_passwd,
    bob: pwd.struct_passwd,
    give: Callable[[Spawner, pwd.struct_passwd, Path], Given],
    mode: dict[str, str],
) -> None:
    """The next broker is served at once. Nothing that the endpoints say is lost, and none of their ends."""
    spawner = start(mode | {"broker_user": alice.pw_name})
    fifo = spawner.folder / "output"
    os.mkfifo(fifo)
    os.chown(fifo, alice.pw_uid, alice.pw_gid)
    output = Output(os.open(fifo, os.O_RDWR))
    given = give(spawner, bob, fifo)
    with acting_as(alice):
        broker = spawner.connect()
        table = broker.children()
        assert (table[uep(1)].ended, table[uep(2)].ended) == (None, 7 << 8)
        assert given.sees_the_end()
        endpoint = program(table[uep(1)].pid)
        broker.send(wire.Noted(uep(2)))
        assert list(broker.children()) == [uep(1)]
    assert until(lambda: _blocks(endpoint, signal.SIGUSR2))
    os.kill(endpoint, signal.SIGUSR1)
    assert output.line() == "the first word\n"
    os.kill(endpoint, signal.SIGUSR1)
    assert output.line() == "the last word\n"
    assert broker.receive(wire.Exited).status == 1 << 8
    output.close()


def _blocks(pid: int, number: int) -> bool:
    """Whether a process blocks a signal, which the program does when it is so far."""
    line = Path(f"/proc/{pid}/status").read_text().partition("\nSigBlk:\t")[2].split()[0]
    return bool(int(line, 16) >> (number - 1) & 1)


@pytest.mark.parametrize("holder", ["bob", "alice"])
def test_nobody_speaks_for_the_broker_on_a_connection_that_it_made(
    start: Start,
    alice: pwd.struct_passwd,
    bob: pwd.struct_passwd,
    give: Callable[[Spawner, pwd.struct_passwd, Path], Given],
    holder: str,
) -> None:
    """Neither another account nor another process of the broker's own."""
    spawner = start({"broker_user": alice.pw_name})
    fifo = spawner.folder / "output"
    os.mkfifo(fifo)
    os.chown(fifo, alice.pw_uid, alice.pw_gid)
    given = give(spawner, bob if holder == "bob" else alice, fifo)
    given.send()
    assert given.sees_the_end()
    assert "another process" in spawner.audit()[-1]["reason"]
    assert "signal" not in [line["event"] for line in spawner.audit()]
    with acting_as(alice):
        assert spawner.connect().children()[uep(1)].ended is None


# Takes a listening socket from the process that starts it, as systemd hands one over: sd_listen_fds(3).
TAKE_OVER = """
import ctypes, os, sys
PIDFD_GETFD = 438
parent = os.pidfd_open(os.getppid())
listener = ctypes.CDLL(None).syscall(PIDFD_GETFD, parent, int(sys.argv[1]), 0)
os.dup2(os.dup(listener), 3)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
os.execv(sys.argv[2], sys.argv[2:])
"""


@pytest.fixture
def old(tmp_path: Path) -> Iterator[socket.socket]:
    """A listening socket that a spawner or a socket unit of an earlier version has made."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(tmp_path / "old.sock"))
        listener.listen(4)
        yield listener


def _take_over(start: Start, listener: socket.socket) -> Spawner:
    spawner = start(prefix=(sys.executable, "-c", TAKE_OVER, str(listener.fileno())))
    spawner.socket = Path(listener.getsockname())
    return spawner


def test_a_broker_that_waits_at_an_old_socket_is_served(start: Start, old: socket.socket) -> None:
    """As the broker does, it says nothing before it has heard something."""
    waiting = Broker(Path(old.getsockname()))
    spawner = _take_over(start, old)
    spawner.brokers.append(waiting)
    waiting.hear_hello()
    assert waiting.children() == {}
    assert spawner.connect().children() == {}


def test_what_was_said_at_an_old_socket_is_heard(start: Start, old: socket.socket) -> None:
    """The kernel knows who sent what waits to be accepted, before anybody has asked for it."""
    waiting = Broker(Path(old.getsockname()))
    waiting.send(wire.List())
    spawner = _take_over(start, old)
    spawner.brokers.append(waiting)
    waiting.hear_hello()
    assert waiting.receive(wire.Children).children == []


def test_what_an_older_connection_says_last_costs_a_newer_one_nothing(start: Start) -> None:
    """Both come in one turn of the spawner's: the older one has been hung up on when it is its turn."""
    spawner = start()
    older = spawner.connect()
    spawner.process.send_signal(signal.SIGSTOP)
    assert until(lambda: status(spawner.process.pid)["State"].startswith("T"))
    newer = spawner.connect_raw()
    older.send(wire.List())
    spawner.process.send_signal(signal.SIGCONT)
    newer.hear_hello()
    assert newer.children() == {}
    assert older.hung_up()


def test_what_comes_without_credentials_is_not_heard(start: Start) -> None:
    """The kernel only says that it will add them."""
    if not shutil.which("strace"):
        pytest.skip("needs strace")
    lying = ("strace", "--daemonize", "--follow-forks", "--quiet=all", "-o", "/dev/null", "--trace=setsockopt")
    spawner = start({}, (*lying, "--inject=setsockopt:retval=0"))
    broker = spawner.connect()
    broker.send(wire.List())
    assert broker.hung_up()
    assert "another process" in spawner.audit()[-1]["reason"]


def test_a_broker_whose_process_has_no_number_here_is_refused(start: Start) -> None:
    """Its datagrams could come from any process that has none: pid_namespaces(7)."""
    spawner = start(prefix=("unshare", "--pid", "--fork", "--mount-proc"))
    try:
        assert spawner.connect_raw().hung_up()
        assert spawner.audit()[-1]["reason"] == f"process 0 with uid {os.getuid()} is not the broker"
    finally:
        [inner] = children(spawner.process.pid)
        os.kill(inner, signal.SIGTERM)
        spawner.process.wait(60)


def test_credentials_are_not_taken_for_descriptors(start: Start) -> None:
    """Three numbers in the ancillary data of each datagram: were they closed, the log or the listener would be."""
    spawner = start()
    broker = spawner.connect()
    credentials = struct.pack("3i", os.getpid(), os.getuid(), os.getgid())
    for _ in range(3):
        broker.socket.sendmsg([wire.encode(wire.List())], [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, credentials)])
        broker.receive(wire.Children)
    assert spawner.connect().children() == {}
