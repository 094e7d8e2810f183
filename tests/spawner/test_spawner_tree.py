"""Nothing that an endpoint started outlives it, daemons and fork bombs included; and nothing outlives the spawner.

Without cgroups the kernel's lists of children are all there is, with a cgroup there is its kill file; and PAM takes two
guards: every promise is tested in each way. What is not tested: an endpoint that the kernel kills when a cgroup's
memory is used up. That is a SIGKILL from outside, like a stranger's.
"""

import os
import pwd
import select
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from process_trees import alive, children, eventually, guards, keeper_of, lives, processes, program
from spawner_rig import PYTHON, Broker, Spawner, Start, gone, uep
from twinlock_wire import wire

pytestmark = pytest.mark.system

NPROC = 150  # processes of one account at most, so that the machine bears a fork bomb

_LIFE = """
import ctypes, os, signal, threading, time
libc = ctypes.CDLL(None)
reader, ready = os.pipe()

def daemon(act):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            act()
        os._exit(0)
    os.wait()

def deaf():
    os.write(ready, b"!")
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    while True:
        time.sleep(1000)

def stopped():
    os.write(ready, b"!")
    os.kill(os.getpid(), signal.SIGSTOP)

def subreaper():
    libc.prctl(36, 1)  # PR_SET_CHILD_SUBREAPER
    daemon(deaf)
    deaf()

def headless():
    threading.Thread(target=time.sleep, args=[1000]).start()
    os.write(ready, b"!")
    libc.pthread_exit(None)

def bomb():
    while True:
        try:
            os.fork()
            os.setsid()
        except OSError:
            pass

def comet():
    for flight in range(10**9):
        try:
            if os.fork():
                os._exit(0)
            os.setsid()
        except OSError:
            pass
        if flight == 20:
            print("up", flush=True)

def headless_bomb():
    while True:
        try:
            if os.fork() == 0:
                threading.Thread(target=headless_bomb).start()
                libc.pthread_exit(None)
        except (OSError, RuntimeError):
            pass

def tracer():
    libc.ptrace(0x4206, os.getppid(), None, None)  # PTRACE_SEIZE
    deaf()

def live(count=0):
    while count > 0:
        count -= len(os.read(reader, count))
    print("up", flush=True)
    signal.sigwait({signal.SIGUSR1})
    os._exit(0)

signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
"""
_ZOO = "for act in (deaf, stopped, subreaper, headless): daemon(act)\nif os.fork() == 0: os.setsid(); deaf()\nlive(6)"
PROGRAMS = {
    "zoo": [*PYTHON, _LIFE + _ZOO],
    "bomb": [*PYTHON, _LIFE + "daemon(bomb)\nlive()"],
    "headless-bomb": [*PYTHON, _LIFE + "daemon(headless_bomb)\nlive()"],
    "comets": [*PYTHON, _LIFE + "for number in range(3): daemon(comet)\nlive()"],
    "hidden-comets": [*PYTHON, _LIFE + "libc.prctl(36, 1)\ndaemon(comet)\nlive()"],
}
PROCESSES = {"bomb": NPROC - 5, "headless-bomb": NPROC // 4}  # so many there are soon

TRACED = [
    *PYTHON,
    _LIFE + "libc.prctl(0x59616D61, -1)\nif os.fork() == 0: tracer()\nlive(1)",
]  # PR_SET_PTRACER: by anyone

ENDS = ["exit", "TERM", "KILL", "stranger"]
MODES = ["cgroup", "guards", "pam"]
# A fork bomb takes seconds, and the guards are the same ones.
CASES = [(mode, word) for mode in MODES for word in PROGRAMS if mode != "pam" or "bomb" not in word]
SESSION = ("setsid",)  # of its own, as any service has


@pytest.fixture(autouse=True)
def prompt() -> Iterator[None]:
    """The test sees in time what happens beside a fork bomb. What it starts isn't preferred."""
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    yield
    os.sched_setscheduler(0, policy, parameters)


@pytest.fixture
def alice(alice: pwd.struct_passwd) -> pwd.struct_passwd:
    """The throw-away user, who has no processes yet or any more, zombies that wait for init included."""
    assert eventually(lambda: not processes(alice.pw_uid))
    return alice


@pytest.fixture
def grace() -> int:
    """Seconds between TERM and KILL: many, so that TERM ends what it can, however late a process gets to run."""
    return 1000


@pytest.fixture(params=MODES)
def spawner(request: pytest.FixtureRequest, start: Start, cgroup: str, plain: str, grace: int) -> Spawner:
    """A spawner that uses cgroups, one that doesn't, and one that opens PAM sessions."""
    policy = _policy(cgroup * (request.param == "cgroup"), plain * (request.param == "pam"))
    return start(policy | {"stop_grace": grace}, SESSION)


def _policy(cgroup: str, pam_service: str = "") -> dict[str, Any]:
    policy = {"rlimits": {"nproc": [NPROC, NPROC]}, "programs": PROGRAMS | {"traced": TRACED}}
    return policy | {"cgroup": cgroup, "pam_service": pam_service}


def _start(broker: Broker, number: int, user: pwd.struct_passwd, word: str) -> int:
    """The process shown for an endpoint, when all is there that the program makes."""
    before = len(alive(user.pw_uid))
    output = broker.spawn(number, user.pw_name, word)
    pid = broker.receive(wire.Spawned).pid
    assert output.line() == "up\n"
    assert eventually(lambda: len(alive(user.pw_uid)) - before >= PROCESSES.get(word, 1))
    return pid


def _end(broker: Broker, number: int, pid: int, end: str) -> None:
    """End the endpoint, and wait until its own process has ended."""
    endpoint = program(pid)
    pidfd = os.pidfd_open(endpoint)
    if end == "exit":
        os.kill(endpoint, signal.SIGUSR1)
    elif end == "stranger":
        os.kill(endpoint, signal.SIGKILL)
    else:
        broker.send(wire.Signal(uep(number), end))
    ready, _, _ = select.select([pidfd], [], [], 60)
    os.close(pidfd)
    assert ready, "the endpoint didn't end"


@pytest.mark.cases(4)
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize(("spawner", "word"), CASES, indirect=["spawner"])
def test_nothing_outlives_an_endpoint(spawner: Spawner, alice: pwd.struct_passwd, word: str, end: str) -> None:
    broker = spawner.connect()
    pid = _start(broker, 1, alice, word)
    _end(broker, 1, pid, end)
    assert eventually(lambda: not alive(alice.pw_uid))
    status = broker.receive(wire.Exited).status
    expected = {"exit": 0, "TERM": -signal.SIGTERM, "KILL": -signal.SIGKILL, "stranger": -signal.SIGKILL}
    assert os.waitstatus_to_exitcode(status) == expected[end]


@pytest.mark.cases(2)
@pytest.mark.parametrize(("spawner", "word"), CASES, indirect=["spawner"])
def test_an_end_is_reported_when_nothing_is_left(spawner: Spawner, alice: pwd.struct_passwd, word: str) -> None:
    broker = spawner.connect()
    _start(broker, 1, alice, word)
    broker.send(wire.Signal(uep(1), "KILL"))
    broker.receive(wire.Exited)
    assert alive(alice.pw_uid) == set()


def test_another_endpoint_of_the_account_stays(spawner: Spawner, alice: pwd.struct_passwd) -> None:
    broker = spawner.connect()
    _start(broker, 1, alice, "zoo")
    others = alive(alice.pw_uid)
    pid = _start(broker, 2, alice, "zoo")
    _end(broker, 2, pid, "stranger")
    assert broker.receive(wire.Exited).id == uep(2)
    assert alive(alice.pw_uid) == others
    assert broker.children()[uep(1)].ended is None


@pytest.mark.cases(2)
@pytest.mark.parametrize(("spawner", "word"), CASES, indirect=["spawner"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["TERM", "KILL"])
def test_nothing_outlives_the_spawner(
    spawner: Spawner, alice: pwd.struct_passwd, bob: pwd.struct_passwd, word: str, number: signal.Signals
) -> None:
    broker = spawner.connect()
    _start(broker, 1, alice, word)
    _start(broker, 2, bob, "zoo")
    spawner.process.send_signal(number)
    spawner.process.wait(60)
    assert eventually(lambda: not alive(alice.pw_uid) | alive(bob.pw_uid))


@pytest.mark.cases(2)
@pytest.mark.parametrize("grace", [1], ids=[pytest.HIDDEN_PARAM])
@pytest.mark.parametrize("by", ["KILL", "TERM", "spawner-KILL", "spawner-TERM"])
def test_an_endpoint_cannot_hide_its_end(spawner: Spawner, alice: pwd.struct_passwd, by: str) -> None:
    """What traces it gets its signals and hears of its end in its parent's place (ptrace(2)); KILL ends both."""
    broker = spawner.connect()
    _start(broker, 1, alice, "traced")
    if by.startswith("spawner"):
        spawner.process.send_signal(signal.SIGKILL if by == "spawner-KILL" else signal.SIGTERM)
        spawner.process.wait(60)
    else:
        broker.send(wire.Signal(uep(1), by))
        assert os.waitstatus_to_exitcode(broker.receive(wire.Exited).status) == -signal.SIGKILL
    assert eventually(lambda: not alive(alice.pw_uid))


def test_who_ends_endpoints_is_not_in_the_spawners_process_group(spawner: Spawner, alice: pwd.struct_passwd) -> None:
    """Who kills that whole group doesn't kill those who are to end the rest."""
    _start(spawner.connect(), 1, alice, "zoo")
    if spawner.cgroup:
        keeper_of(spawner.process.pid)
    os.killpg(spawner.process.pid, signal.SIGKILL)
    spawner.process.wait(60)
    assert eventually(lambda: not alive(alice.pw_uid))


def test_a_keeper_takes_no_harm_from_signals(start: Start, alice: pwd.struct_passwd, cgroup: str) -> None:
    """It ends when all has ended, and has removed the spawner's folder."""
    spawner = start(_policy(cgroup))
    _start(spawner.connect(), 1, alice, "zoo")
    keeper = keeper_of(spawner.process.pid)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        os.kill(keeper, number)
    spawner.process.kill()
    spawner.process.wait(60)
    assert eventually(lambda: not alive(alice.pw_uid))
    assert eventually(lambda: not Path(cgroup, str(spawner.process.pid)).exists())
    assert gone(keeper)


@pytest.mark.cases(2)
@pytest.mark.parametrize("word", PROGRAMS)
def test_a_guard_that_is_killed_leaves_nothing(start: Start, alice: pwd.struct_passwd, word: str) -> None:
    """What is left then comes to the spawner, which ends it before it tells of the endpoint's end."""
    spawner = start(_policy(""))
    broker = spawner.connect()
    [guard] = guards(_start(broker, 1, alice, word))
    os.kill(guard, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(broker.receive(wire.Exited).status) == -signal.SIGKILL
    assert alive(alice.pw_uid) == set()
    assert eventually(lambda: children(spawner.process.pid) == [])


@pytest.mark.parametrize("which", ["outer", "inner"])
def test_a_guard_of_two_that_is_killed_leaves_nothing(
    start: Start, alice: pwd.struct_passwd, plain: str, which: str
) -> None:
    spawner = start(_policy("", plain))
    broker = spawner.connect()
    outer, inner = guards(_start(broker, 1, alice, "zoo"))
    os.kill(outer if which == "outer" else inner, signal.SIGKILL)
    assert eventually(lambda: not alive(alice.pw_uid))
    assert os.waitstatus_to_exitcode(broker.receive(wire.Exited).status) == -signal.SIGKILL
    assert eventually(lambda: children(spawner.process.pid) == [])


def test_who_is_not_a_killed_guards_stays(start: Start, alice: pwd.struct_passwd) -> None:
    """Another endpoint of the account, and a service of the host that has come to the spawner, as to any subreaper."""
    spawner = start(_policy(""), ("sh", "-c", 'setsid sleep 1000 & exec "$@"', "sh"))
    [service] = children(spawner.process.pid)
    try:
        broker = spawner.connect()
        _start(broker, 1, alice, "zoo")
        others = alive(alice.pw_uid)
        [guard] = guards(_start(broker, 2, alice, "zoo"))
        os.kill(guard, signal.SIGKILL)
        assert broker.receive(wire.Exited).id == uep(2)
        assert alive(alice.pw_uid) == others
        assert lives(service)
    finally:
        os.kill(service, signal.SIGKILL)


@pytest.mark.parametrize("signals", ["some", "all"])
def test_a_guard_takes_no_harm_from_other_signals(start: Start, alice: pwd.struct_passwd, signals: str) -> None:
    broker = start(_policy("")).connect()
    pid = _start(broker, 1, alice, "zoo")
    fatal = {signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM, signal.SIGUSR1}
    for guard in guards(pid):
        for number in signal.valid_signals() - fatal:
            os.kill(guard, number)
    assert not gone(program(pid), 0.1)
    _end(broker, 1, pid, "exit")
    assert broker.receive(wire.Exited).status == 0
    assert alive(alice.pw_uid) == set()


def _preference(pid: int) -> tuple[int, str]:
    """A process's nice value, and that of its session where the kernel shares time out among sessions (sched(7)).

    The file is empty in a session that is none of those, since it is older than the kernel's setting.
    """
    session = Path(f"/proc/{pid}/autogroup")
    shares = session.read_text() if session.exists() else ""
    return os.getpriority(os.PRIO_PROCESS, pid), shares.rpartition(" ")[2].strip()


def test_who_ends_endpoints_is_ahead_of_them(spawner: Spawner, alice: pwd.struct_passwd) -> None:
    """A fork bomb can't keep spawner, keeper and guards waiting; and their preference isn't inherited."""
    pid = _start(spawner.connect(), 1, alice, "zoo")
    ours = {spawner.process.pid, *([keeper_of(spawner.process.pid)] if spawner.cgroup else guards(pid))}
    users = {_preference(process) for process in alive(alice.pw_uid)}
    assert users in ({(0, "0")}, {(0, "")})
    preferred = {(-20, "-20" if users == {(0, "0")} else "")}
    assert eventually(
        lambda: {_preference(process) for process in ours} == preferred
    )  # a guard may be slower than they


def test_a_spawner_started_by_hand_leaves_the_session_as_it_is(start: Start, cgroup: str) -> None:
    """What it would set counts for all processes of the session, and stays."""
    before = _preference(os.getpid())[1]
    spawner = start(_policy(cgroup))
    assert _preference(spawner.process.pid) == (-20, before)


def test_without_its_keeper_a_spawner_still_ends_all(start: Start, alice: pwd.struct_passwd, cgroup: str) -> None:
    """What is left when keeper and spawner are both killed is ended by the next spawner."""
    first = start(_policy(cgroup))
    broker = first.connect()
    pid = _start(broker, 1, alice, "zoo")
    os.kill(keeper_of(first.process.pid), signal.SIGKILL)
    _end(broker, 1, pid, "stranger")
    broker.receive(wire.Exited)
    assert alive(alice.pw_uid) == set()

    pid = _start(broker, 2, alice, "zoo")
    first.process.kill()
    first.process.wait(60)
    assert eventually(lambda: not lives(pid))
    start(_policy(cgroup))
    assert eventually(lambda: not alive(alice.pw_uid))
