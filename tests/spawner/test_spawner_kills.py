"""Whom a signal reaches: a pid that has come to mean another process, since it was last looked at, is left alone."""

import pwd
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from process_trees import alive, eventually
from spawner_rig import PYTHON, Start, uep
from twinlock_spawner import tree
from twinlock_wire import wire

pytestmark = pytest.mark.system


@pytest.fixture
def alice(alice: pwd.struct_passwd) -> pwd.struct_passwd:
    """The throw-away user, when what earlier tests have started has ended: some of it ends without being waited for."""
    assert eventually(lambda: not alive(alice.pw_uid))
    return alice


# The first process of a pid namespace, in which a pid can be chosen: ns_last_pid in proc(5).
AS_INIT = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-I", "-c"]
_TOOLS = """
import os, signal
from twinlock_spawner import tree

signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

def sleeper():
    pid = os.fork()
    if pid == 0:
        signal.sigwait({signal.SIGTERM})
        os._exit(7)
    return pid

def sleeper_with(pid):
    with open("/proc/sys/kernel/ns_last_pid", "w") as last:
        last.write(str(pid - 1))
    assert sleeper() == pid

def end(pid):
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)

def lived(pid):  # until now: who is killed already doesn't come to its own end
    os.kill(pid, signal.SIGTERM)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
"""
_REPLACED_BEHIND_THE_PIDFD = """
def chosen(pid):
    end(pid)
    sleeper_with(pid)
    return True

child = sleeper()
tree.kill_descendants(chosen)
print(lived(child))
"""
_REPLACED_BEFORE_THE_PIDFD = """
from_parent, to_init = os.pipe()
from_init, to_parent = os.pipe()

def chosen(pid):
    if seen:
        return True
    seen.append(pid)
    [other] = {first, second} - {pid}
    end(other)
    os.write(to_init, str(other).encode())
    os.read(from_init, 1)
    return True

parent = os.fork()
if parent == 0:
    seen = []
    first = sleeper()
    second = sleeper()
    tree.kill_descendants(chosen)
    os.kill(os.getpid(), signal.SIGKILL)
stranger = int(os.read(from_parent, 20))
sleeper_with(stranger)
os.write(to_parent, b"!")
os.waitpid(parent, 0)
print(lived(stranger))
"""
_FORKS_BEHIND_THE_LIST = """
orders, to_child = os.pipe()
born, to_parent = os.pipe()

def chosen(pid):
    if pid == child:
        os.write(to_child, b"!")
        seen.append(int(os.read(born, 20)))
    return True

child = os.fork()
if child == 0:
    os.read(orders, 1)
    os.write(to_parent, str(sleeper()).encode())
    signal.pause()
seen = []
tree.kill_descendants(chosen)
os.waitpid(child, 0)  # from then on its own child is ours
print(lived(*seen))
"""


@pytest.mark.parametrize("replaced", [_REPLACED_BEHIND_THE_PIDFD, _REPLACED_BEFORE_THE_PIDFD], ids=["behind", "before"])
def test_a_pid_that_comes_to_mean_another_process_is_spared(replaced: str) -> None:
    """A process has ended, and its pid is another's: after the pidfd was opened, or already before that."""
    done = subprocess.run([*AS_INIT, _TOOLS + replaced], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "True\n"


def test_who_is_born_while_the_others_are_killed_dies_too() -> None:
    """The list of all processes was read before."""
    argv = [*AS_INIT, _TOOLS + _FORKS_BEHIND_THE_LIST]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "False\n"


@pytest.fixture
def bystander() -> Iterator["subprocess.Popen[bytes]"]:
    """A process that isn't in any endpoint's cgroup; it ends with its stdin, unless a signal has come before."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def test_a_pid_that_has_left_the_cgroup_is_spared(tmp_path: Path, bystander: "subprocess.Popen[bytes]") -> None:
    """The kernel's list shows a pid that is another's by the time of the signal."""
    (tmp_path / "cgroup.kill").touch()
    (tmp_path / "cgroup.procs").write_text(f"{bystander.pid}\n")
    assert not tree.kill_cgroup(str(tmp_path)), "the folder is still there"
    bystander.communicate()
    assert bystander.returncode == 0


def test_the_kernel_is_asked_to_kill_all_in_a_cgroup_at_once(tmp_path: Path) -> None:
    """Only so it reaches those that are being forked just then."""
    (tmp_path / "cgroup.kill").touch()
    (tmp_path / "cgroup.procs").touch()
    assert not tree.kill_cgroup(str(tmp_path)), "the folder is still there"
    assert (tmp_path / "cgroup.kill").read_text() == "1"


def test_a_cgroup_in_which_nothing_runs_is_removed(cgroup: str) -> None:
    """With those below it, the lowest first."""
    Path(cgroup, "below").mkdir(parents=True)
    assert tree.kill_cgroup(cgroup)
    assert not Path(cgroup).exists()


def test_a_process_of_another_pid_namespace_in_the_cgroup(tmp_path: Path) -> None:
    """The kernel shows it as 0, and to kill(2) that is the caller's own process group."""
    (tmp_path / "cgroup.kill").touch()
    (tmp_path / "cgroup.procs").write_text("0\n")
    code = "import sys; from twinlock_spawner import tree; print(tree.kill_cgroup(sys.argv[1]))"
    argv = [sys.executable, "-I", "-c", code, str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, start_new_session=True, check=False)
    assert (done.returncode, done.stdout) == (0, "False\n")


DISGUISED = """
import ctypes, os, signal
ctypes.CDLL(None).prctl(15, b"x) S 1 1 (1 1 1")  # PR_SET_NAME
if os.fork() == 0:
    os.setsid()
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    print("up", flush=True)
    while True:
        signal.sigwait(signal.valid_signals())
signal.pause()
"""


def test_a_name_that_looks_like_another_parent(start: Start, alice: pwd.struct_passwd) -> None:
    """The kernel shows a process's name, which is its own choice, on one line with its parent."""
    broker = start({"programs": {"disguised": [*PYTHON, DISGUISED]}}).connect()
    broker.spawn(1, alice.pw_name, "disguised").line()
    broker.receive(wire.Spawned)
    broker.send(wire.Signal(uep(1), "KILL"))
    broker.receive(wire.Exited)
    assert not alive(alice.pw_uid)


WIDE_AND_DEEP = """
import os, signal
for _ in range(20):
    if os.fork() == 0:
        for _ in range(4):
            if os.fork():
                break
            os.setsid()
        signal.pause()
signal.pause()
"""


@pytest.mark.parametrize("end", ["TERM", "KILL"])
def test_a_tree_is_ended_to_its_last_leaf(start: Start, alice: pwd.struct_passwd, end: str) -> None:
    broker = start({"programs": {"tree": [*PYTHON, WIDE_AND_DEEP]}}).connect()
    broker.spawn(1, alice.pw_name, "tree")
    broker.receive(wire.Spawned)
    assert eventually(lambda: len(alive(alice.pw_uid)) == 1 + 20 * 5)
    broker.send(wire.Signal(uep(1), end))
    broker.receive(wire.Exited)
    assert not alive(alice.pw_uid)
    assert broker.children()[uep(1)].ended is not None
