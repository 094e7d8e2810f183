"""One spawner for a socket and for a cgroup: a second one waits for the first, or ends and has changed nothing."""

import fcntl
import json
import os
import pwd
import signal
import socket
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from nss_rig import NameService
from proc_rig import PATIENCE, descriptors
from process_trees import alive, eventually, guards, keeper_of, lives, program
from spawner_rig import Lines, Spawner, Start, remove_cgroups, uep, write_policy
from spawner_versions import Version
from twinlock_wire import wire

pytestmark = pytest.mark.system

SPAWNER = [sys.executable, "-m", "twinlock_spawner"]
# One that waits for a lock as long as it takes, however slow the test is meanwhile.
PATIENT = [
    sys.executable,
    "-I",
    "-c",
    "import twinlock_spawner.__main__ as spawner; spawner.PATIENCE = 1000.0; spawner.main()",
]
AS_THE_SERVICE_MANAGER = """
import os, socket, sys
listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
listener.bind(sys.argv[1])
listener.listen()
os.dup2(os.dup(listener.fileno()), 3)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
os.execv(sys.argv[2], sys.argv[2:])
"""


@dataclass
class Second:
    """A spawner that may have to wait for another one, or to give way to it."""

    folder: Path
    process: "subprocess.Popen[bytes]"
    said: Lines
    socket: Path
    cgroup: str

    def refusal(self) -> str:
        """Its only words, after it has ended with 75."""
        assert self.process.wait(PATIENCE) == os.EX_TEMPFAIL
        word = self.said.wait_for("twinlock-spawner: ")
        assert self.said.last(2) == [word]
        return word

    def waits_for(self, lock: Path) -> bool:
        """Whether it comes so far that it has opened the lock file, or has waited for it long enough."""
        return eventually(lambda: self.process.poll() == os.EX_TEMPFAIL or str(lock) in opened(self.process.pid))

    def serving(self) -> Spawner:
        """The spawner, when it serves."""
        self.said.wait_for('"started"')
        return Spawner(self.folder, self.process, self.said, self.socket, self.cgroup)


Begin = Callable[..., Second]


@pytest.fixture
def begin() -> Iterator[Begin]:
    """Run a spawner with the policy of `first` but for the changes, and don't wait for it to serve."""
    with ExitStack() as stack:

        def begin(
            first: Spawner, *, prefix: tuple[str, ...] = (), command: Sequence[str] = SPAWNER, **changes: Any
        ) -> Second:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="twl-", dir="/var/tmp")))
            folder.chmod(0o755)
            values = tomllib.loads((first.folder / "policy.toml").read_text()) | changes
            write_policy(folder, values)
            argv = [*prefix, *command, "--policy", str(folder / "policy.toml")]
            process = subprocess.Popen(argv, stderr=subprocess.PIPE, cwd="/")
            stack.callback(_end, process)
            return Second(folder, process, Lines(process), Path(values["socket"]), values.get("cgroup", ""))

        yield begin


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    process.wait(PATIENCE)


def lock_of(path: Path) -> Path:
    """The lock file of the spawner whose socket is at the path."""
    return path.with_name(f"{path.name}.lock")


def opened(pid: int) -> set[str]:
    """What a process has open."""
    return set(descriptors(pid).values())


def made(path: Path) -> tuple[int, int]:
    """What tells a file from one that is made at the same path later; a number of an inode may be used again."""
    return path.stat().st_ino, path.stat().st_ctime_ns


def is_locked(path: Path) -> bool:
    """Whether some process holds the lock of a file."""
    file = os.open(path, os.O_WRONLY)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


@contextmanager
def frozen(pid: int, folder: Path) -> Iterator[None]:
    """Let a process do nothing until the end of the block. What is stopped goes on when its parent ends."""
    folder.mkdir()
    (folder / "cgroup.procs").write_text(str(pid))
    (folder / "cgroup.freeze").write_text("1")
    assert eventually(lambda: "frozen 1" in (folder / "cgroup.events").read_text())
    try:
        yield
    finally:
        (folder / "cgroup.freeze").write_text("0")
        assert eventually(lambda: not lives(pid))
        remove_cgroups(folder)


def run(folder: Path, **values: Any) -> "subprocess.CompletedProcess[str]":
    """A spawner with its files in the folder, one that ends."""
    paths = {"socket": str(folder / "spawner.sock"), "audit_log": str(folder / "audit.log")}
    write_policy(folder, {"broker_user": "root"} | paths | values)
    argv = [*SPAWNER, "--policy", str(folder / "policy.toml")]
    return subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE, cwd="/", check=False)


def holder(pid: int, file: Path) -> str:
    """How a spawner names `pid`, which has locked the file, where the kernel tells: on an overlay it doesn't.

    proc_locks(5) has the device of the file system below, and stat(2) the overlay's.
    """
    status = file.stat()
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino} "
    return f"process {pid}:" if device in Path("/proc/locks").read_text() else "another process:"


def test_a_second_spawner_changes_nothing(
    start: Start, begin: Begin, cgroup: str, alice: pwd.struct_passwd, tmp_path: Path
) -> None:
    """Whether it shares the policy, only the socket, or only the cgroup; it says who is in the way."""
    first = start({"cgroup": cgroup})
    broker = first.connect()
    daemon = int(broker.spawn(1, alice.pw_name, "daemon").line())
    pid = broker.receive(wire.Spawned).pid
    before = made(first.socket)
    log = (first.folder / "audit.log").read_bytes()
    elsewhere = {"audit_log": str(tmp_path / "audit.log")}
    seconds = [
        (lock_of(first.socket), begin(first)),
        (lock_of(first.socket), begin(first, **elsewhere, cgroup="")),
        (Path(cgroup, "cgroup.kill"), begin(first, **elsewhere, socket=str(tmp_path / "spawner.sock"))),
    ]
    for file, second in seconds:
        assert f"{file} is locked by {holder(first.process.pid, file)}" in second.refusal()
    assert (lives(pid), lives(daemon)) == (True, True)
    assert broker.children()[uep(1)].ended is None
    assert (first.folder / "audit.log").read_bytes().startswith(log)
    assert [line["event"] for line in first.audit()].count("started") == 1
    assert made(first.socket) == before
    assert {path.name for path in tmp_path.iterdir()} == {"spawner.sock.lock"}
    broker.close()
    assert eventually(lambda: first.audit()[-1]["event"] == "disconnected")
    assert first.connect().children()[uep(1)].pid == pid


def test_a_second_spawner_without_a_cgroup(start: Start, begin: Begin, alice: pwd.struct_passwd) -> None:
    first = start()
    broker = first.connect()
    broker.spawn(1, alice.pw_name, "sleep").line()
    pid = broker.receive(wire.Spawned).pid
    seconds = [
        (holder(first.process.pid, lock_of(first.socket)), begin(first)),
        ("another process:", begin(first, prefix=("unshare", "--pid", "--fork", "--mount-proc"))),  # sees no other
    ]
    for who, second in seconds:
        assert f"{lock_of(first.socket)} is locked by {who}" in second.refusal()
    assert broker.children()[uep(1)].pid == pid
    assert lives(pid)


def test_a_second_spawner_beside_that_of_the_service_manager(start: Start, begin: Begin, tmp_path: Path) -> None:
    """What is handed over is at another path here than in the policy: the policy's socket is locked all the same."""
    path = tmp_path / "handed-over.sock"
    first = start(prefix=(sys.executable, "-c", AS_THE_SERVICE_MANAGER, str(path)))
    assert str(lock_of(first.socket)) in begin(first).refusal()
    assert str(path) in begin(first, socket=str(path)).refusal()
    first.socket = path
    assert first.connect().children() == {}


def test_two_spawners_that_share_nothing(start: Start, cgroup: str) -> None:
    for policy in ({"cgroup": f"{cgroup}/one"}, {"cgroup": f"{cgroup}/two"}, {}):
        spawner = start(policy)
        spawner.cgroup = cgroup
        assert spawner.connect().children() == {}


def test_what_a_spawner_left_is_no_obstacle(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "spawner.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(path))
        listener.listen()
    lock_of(path).touch(0o600)
    inode = lock_of(path).stat().st_ino
    for _ in range(2):
        spawner = start({"socket": str(path)})
        assert spawner.connect().children() == {}
        spawner.process.kill()
        spawner.process.wait(60)
    assert path.exists()
    assert (lock_of(path).stat().st_ino, lock_of(path).stat().st_mode & 0o777) == (inode, 0o600)


def _replace_by_link(lock: Path, account: pwd.struct_passwd) -> None:
    target = lock.with_name("private")
    target.touch(0o600)
    lock.symlink_to(target)


def _give_away(lock: Path, account: pwd.struct_passwd) -> None:
    lock.touch(0o600)
    os.chown(lock, account.pw_uid, account.pw_gid)


def _open_to_others(lock: Path, account: pwd.struct_passwd) -> None:
    lock.touch(0o600)
    lock.chmod(0o640)


@pytest.mark.parametrize("prepare", [_replace_by_link, _give_away, _open_to_others])
def test_a_lock_file_that_others_could_lock(
    tmp_path: Path, alice: pwd.struct_passwd, prepare: Callable[[Path, pwd.struct_passwd], None]
) -> None:
    lock = lock_of(tmp_path / "spawner.sock")
    prepare(lock, alice)
    before = {*tmp_path.iterdir(), tmp_path / "policy.toml"}
    done = run(tmp_path)
    assert done.returncode == os.EX_CONFIG
    assert done.stderr.startswith(f"twinlock-spawner: {lock} ")
    assert {*tmp_path.iterdir()} == before


@pytest.mark.parametrize("folder", ["", "/no/such/folder"])
def test_a_cgroup_that_is_none(tmp_path: Path, folder: str) -> None:
    """A folder of another file system; one that can't be made."""
    done = run(tmp_path, cgroup=f"/proc{folder}" if folder else str(tmp_path))
    assert done.returncode == os.EX_CONFIG
    assert done.stderr.startswith("twinlock-spawner: cgroup: ")
    assert not (tmp_path / "spawner.sock").exists()


def test_a_file_that_is_no_socket_is_never_removed(tmp_path: Path) -> None:
    path = tmp_path / "spawner.sock"
    path.write_text("somebody's")
    done = run(tmp_path)
    assert done.returncode == os.EX_CONFIG
    assert done.stderr == f"twinlock-spawner: socket: {path} is there and is no socket; name another path\n"
    assert path.read_text() == "somebody's"


@pytest.mark.parametrize("kind", [socket.SOCK_SEQPACKET, socket.SOCK_STREAM])
@pytest.mark.parametrize("full", [False, True], ids=["", "full"])
def test_a_socket_on_which_somebody_listens_is_never_removed(tmp_path: Path, kind: int, full: bool) -> None:
    """Also if its queue is full, and whatever it is."""
    path = tmp_path / "spawner.sock"
    with socket.socket(socket.AF_UNIX, kind) as listener, ExitStack() as stack:
        listener.bind(str(path))
        listener.listen(0)
        if full:
            stack.enter_context(socket.socket(socket.AF_UNIX, kind)).connect(str(path))
        before = made(path)
        done = run(tmp_path)
        assert done.returncode == os.EX_TEMPFAIL
        assert done.stderr.startswith(f"twinlock-spawner: {path} is in use: ")
        assert made(path) == before
        if full or kind == socket.SOCK_SEQPACKET:  # the spawner's attempt, or what was there before it
            listener.accept()[0].close()
        stack.enter_context(socket.socket(socket.AF_UNIX, kind)).connect(str(path))


def test_a_spawner_that_starts_over_keeps_its_locks(start: Start, begin: Begin, cgroup: str) -> None:
    """From one self to the next, also when somebody waits for them all the time."""
    first = start({"cgroup": cgroup})
    files = lock_of(first.socket), Path(cgroup, "cgroup.kill")
    second = begin(first)
    assert second.waits_for(files[0])
    third = begin(first, socket=str(second.folder / "spawner.sock"))
    assert third.waits_for(files[1])
    for _ in range(3):
        _start_over(first)
    assert [is_locked(file) for file in files] == [True, True]
    assert str(files[0]) in second.refusal()
    assert str(files[1]) in third.refusal()
    assert first.connect().children() == {}


def _start_over(spawner: Spawner) -> None:
    before = spawner.said.count()
    spawner.process.send_signal(signal.SIGHUP)
    spawner.said.wait_for('"started"', after=before)


def _replace(old: str, new: str, text: str) -> str:
    assert old in text
    return text.replace(old, new)


def test_locks_of_a_version_that_had_none(version: Version, cgroup: str, alice: pwd.struct_passwd) -> None:
    """It starts over as one that has; and the other way round, and back again: they don't get lost."""
    taken = "def take_locks("
    none = "def take_locks(_, cgroup, __):\n    os.makedirs(cgroup, exist_ok=True)\n\n\ndef _take_locks("
    version.change("twinlock_spawner/locks.py", partial(_replace, taken, none))
    spawner = version.start({"cgroup": cgroup})
    broker = spawner.connect()
    broker.spawn(1, alice.pw_name, "sleep").line()
    pid = broker.receive(wire.Spawned).pid
    files = lock_of(spawner.socket), Path(cgroup, "cgroup.kill")
    assert [file.exists() and is_locked(file) for file in files] == [False, False]
    for before, after in ((none, taken), (taken, none), (none, taken)):
        version.change("twinlock_spawner/locks.py", partial(_replace, before, after))
        _start_over(spawner)
        assert [is_locked(file) for file in files] == [True, True]
    assert spawner.connect().children()[uep(1)].pid == pid


def test_a_new_policy_whose_cgroup_is_anothers(start: Start, cgroup: str, alice: pwd.struct_passwd) -> None:
    """The spawner goes on as it is, and so does the other one; a folder that is no cgroup is no better."""
    other = start({"cgroup": cgroup})
    spawner = start()
    broker = spawner.connect()
    broker.spawn(1, alice.pw_name, "sleep").line()
    pid = broker.receive(wire.Spawned).pid
    values = tomllib.loads((spawner.folder / "policy.toml").read_text())
    for wrong, reason in ((cgroup, f"locked by process {other.process.pid}:"), ("/var/tmp", "/var/tmp/cgroup.kill")):
        write_policy(spawner.folder, values | {"cgroup": wrong})
        before = spawner.said.count()
        spawner.process.send_signal(signal.SIGHUP)
        line = spawner.said.wait_for('"reload-failed"', 60, after=before)
        assert reason in json.loads(line)["reason"]
    assert broker.children()[uep(1)].pid == pid
    assert other.connect().children() == {}


def test_only_spawner_and_keeper_have_the_locks(
    start: Start, names: NameService, mode: dict[str, str], alice: pwd.struct_passwd, bob: pwd.struct_passwd
) -> None:
    """Neither an endpoint nor its guard, nor a start that is with the name service, still as root."""
    spawner = start(mode, names.prefix)
    files = {str(lock_of(spawner.socket))} | ({f"{mode['cgroup']}/cgroup.kill"} if mode else set())
    assert opened(spawner.process.pid) & files == files
    if mode:
        assert opened(keeper_of(spawner.process.pid)) & files == files
    broker = spawner.connect()
    broker.spawn(1, alice.pw_name, "sleep").line()
    pid = broker.receive(wire.Spawned).pid
    for process in (*guards(pid), program(pid)):
        assert opened(process) & files == set()
    with names.hangs(bob.pw_name):
        broker.spawn(2, bob.pw_name, "sleep")
        found = opened(names.asked_by(spawner.process.pid))
    assert found & files == set()
    sockets = [name for name in found if name.startswith("socket:")]
    assert len(sockets) == 1, "neither the connection nor the listener, only where it reports"
    assert broker.receive(wire.Spawned).id == uep(2)


def test_a_signal_during_a_start_is_written_nowhere(
    start: Start, names: NameService, mode: dict[str, str], alice: pwd.struct_passwd
) -> None:
    """Python writes each one to a descriptor of the spawner's, whose number may be that of a module's by then."""
    spawner = start(mode, names.prefix)
    broker = spawner.connect()
    with names.hangs(alice.pw_name):
        broker.spawn(1, alice.pw_name, "sleep")
        os.kill(names.asked_by(spawner.process.pid), signal.SIGHUP)
    broker.receive(wire.Spawned)
    assert not [line for line in spawner.said.last(20) if not line.startswith("{")]


@pytest.mark.cases(2)
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_the_next_spawner_waits_for_the_keeper(
    start: Start, begin: Begin, cgroup: str, alice: pwd.struct_passwd, end: signal.Signals
) -> None:
    """Until it has killed all; then the next one starts."""
    first = start({"cgroup": cgroup})
    broker = first.connect()
    broker.spawn(1, alice.pw_name, "daemon").line()
    broker.receive(wire.Spawned)
    watcher = keeper_of(first.process.pid)
    with frozen(watcher, Path(f"{cgroup}-frozen")):
        first.process.send_signal(end)
        first.process.wait(60)
        files = lock_of(first.socket), Path(cgroup, "cgroup.kill")
        assert [is_locked(file) for file in files] == [True, True]
        second = begin(first, command=PATIENT)
        assert second.waits_for(files[0])
    spawner = second.serving()
    assert not lives(watcher)
    assert alive(alice.pw_uid) == set()
    assert spawner.connect().children() == {}


def test_a_keeper_that_does_not_end_is_named(start: Start, begin: Begin, cgroup: str) -> None:
    first = start({"cgroup": cgroup})
    with frozen(keeper_of(first.process.pid), Path(f"{cgroup}-frozen")):
        first.process.kill()
        first.process.wait(60)
        assert "its keeper" in begin(first).refusal()


def test_the_lock_is_kept_until_the_spawner_serves(version: Version, tmp_path: Path) -> None:
    """Also while the process that serves is executed, and gets the listener."""
    gate = tmp_path / "serves"
    os.mkfifo(gate)
    version.change(
        "twinlock_spawner/reload.py",
        lambda text: text.replace(
            "    _become_daemon()\n", f"    open({str(gate)!r}).read()\n    _become_daemon()\n", 1
        ),
    )
    path = tmp_path / "spawner.sock"
    with ThreadPoolExecutor(1) as pool:
        starting = pool.submit(version.start, {"socket": str(path)})
        with gate.open("w"), lock_of(path).open() as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        starting.result()


def test_a_lock_file_that_is_removed_keeps_nobody_away(start: Start, begin: Begin) -> None:
    """Who waited for it locks the one that is there then: a lock that nobody else can find is none."""
    first = start()
    lock, before = lock_of(first.socket), made(first.socket)
    second = begin(first, command=PATIENT)
    assert second.waits_for(lock)
    lock.unlink()
    with lock.open("w") as another:
        lock.chmod(0o600)
        fcntl.flock(another, fcntl.LOCK_EX | fcntl.LOCK_NB)
        first.process.kill()
        first.process.wait(60)
        assert second.waits_for(lock)
        assert made(first.socket) == before, "it has touched what is another's now"
    spawner = second.serving()
    assert is_locked(lock)
    assert spawner.connect().children() == {}


def test_without_root_a_second_spawner(
    start: Start, begin: Begin, cgroup: str, delegated: tuple[str, ...], alice: pwd.struct_passwd
) -> None:
    """The account has a cgroup of its own, in which cgroup.kill is root's."""
    home = Path(alice.pw_dir)
    paths = {"audit_log": str(home / "audit.log"), "socket": str(home / "spawner.sock")}
    first = start({"broker_user": alice.pw_name, "cgroup": cgroup, **paths}, delegated)
    seconds = {
        str(lock_of(first.socket)): begin(first, prefix=delegated),
        f"{cgroup}/cgroup.procs": begin(first, prefix=delegated, socket=str(home / "other.sock")),
    }
    for file, second in seconds.items():
        assert file in second.refusal()
