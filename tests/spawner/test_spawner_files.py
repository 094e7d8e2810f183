"""What root writes and opens: the audit log, whole lines of it even where a disk was full; nothing of a user's."""

import contextlib
import ctypes
import json
import os
import pwd
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from nss_rig import NameService
from proc_rig import PATIENCE, children, descriptors, status, until
from spawner_rig import Spawner, Start, uep, write_policy
from twinlock_wire import wire

pytestmark = pytest.mark.system


def test_no_identity_is_taken_that_the_log_lacks(start: Start, alice: pwd.struct_passwd, names: NameService) -> None:
    """The request was recorded; then a link came into the log's place, which isn't followed."""
    spawner = start(prefix=names.prefix)
    broker = spawner.connect()
    log = spawner.folder / "audit.log"
    with names.hangs(alice.pw_name):
        output = broker.spawn(1, alice.pw_name, "sleep")
        assert broker.children() == {}
        log.rename(spawner.folder / "former.log")
        log.symlink_to(spawner.folder / "elsewhere")
        broker.spawn(2, alice.pw_name, "sleep")
        assert broker.receive(wire.Refused)[:2] == (uep(2), "audit")  # without a process, which would hang as well
    assert broker.receive(wire.Refused)[1:] == ("audit", "the audit log can't be written")
    assert output.rest() == ""


def test_the_line_about_an_identity_comes_before_the_identity(
    start: Start, alice: pwd.struct_passwd, mode: dict[str, str]
) -> None:
    """It is there whatever fails afterwards; and the program can't print before it."""
    spawner = start({"programs": {"folder": ["/etc"]}} | mode)
    broker = spawner.connect()
    broker.spawn(1, alice.pw_name, "sleep").line()
    (line,) = (line for line in spawner.audit() if line["event"] == "identity")
    assert (line["id"], line["user"], line["uid"]) == (uep(1), alice.pw_name, alice.pw_uid)
    assert line["groups"] == [alice.pw_gid]
    broker.receive(wire.Spawned)
    broker.spawn(2, alice.pw_name, "folder")
    assert broker.receive(wire.Refused).stage == "exec"
    events = [line["event"] for line in spawner.audit() if line.get("id") == uep(2)]
    assert events == ["spawn", "identity", "refused"]


def test_a_change_of_identity_that_fails_stands_after_its_line(start: Start, alice: pwd.struct_passwd) -> None:
    spawner = start(prefix=("setpriv", "--bounding-set=-setuid", "--inh-caps=-setuid"))
    broker = spawner.connect()
    broker.spawn(1, alice.pw_name)
    assert broker.receive(wire.Refused).stage == "uid"
    assert [line["event"] for line in spawner.audit() if line.get("id") == uep(1)] == ["spawn", "identity", "refused"]


def test_a_text_of_others_is_one_short_line_of_printable_characters(start: Start, names: NameService) -> None:
    """Here a name service's: the broker's own is only what the wire allows."""
    spawner = start(prefix=names.prefix)
    broker = spawner.connect()
    broker.spawn(1, "twl-odd")
    reason = broker.receive(wire.Refused).reason
    assert "\n" in reason
    assert len(reason) > 1000
    data = (spawner.folder / "audit.log").read_bytes()
    line = json.loads(data.splitlines()[-1])
    assert (line["event"], len(line["reason"])) == ("refused", 500)
    assert all(32 <= byte < 127 for byte in data.replace(b"\n", b""))


def test_the_audit_log_is_appended_to_and_no_link_is_followed(start: Start, tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    log.write_text("earlier\n")
    start({"audit_log": str(log)})
    assert log.read_text().startswith("earlier\n")
    link = tmp_path / "link.log"
    link.symlink_to(log)
    assert _refused_to_start(tmp_path, {"audit_log": str(link)}) == 111


def _flags_of_the_log(spawner: Spawner) -> int:
    """Those of open(2), of the only descriptor of the log."""
    [fd] = [fd for fd, file in descriptors(spawner.process.pid).items() if file.endswith("/audit.log")]
    lines = Path(f"/proc/{spawner.process.pid}/fdinfo/{fd}").read_text().splitlines()
    return next(int(line.split()[1], 8) for line in lines if line.startswith("flags:"))


def test_no_process_overwrites_anothers_line_and_no_program_gets_the_log(start: Start) -> None:
    """Neither before it was moved aside nor after that."""
    spawner = start()
    broker = spawner.connect()
    for _ in range(2):
        assert broker.children() == {}
        assert _flags_of_the_log(spawner) & (os.O_APPEND | os.O_CLOEXEC) == os.O_APPEND | os.O_CLOEXEC
        (spawner.folder / "audit.log").unlink()


def test_a_journal_that_is_gone_changes_nothing(start: Start, alice: pwd.struct_passwd) -> None:
    """Its end of the pipe is closed after the first line."""
    spawner = start(prefix=("bash", "-c", 'exec "$@" 2> >(head -n 1 >&2)', "bash"))
    broker = spawner.connect()
    broker.spawn(1, alice.pw_name, "fail")
    broker.receive(wire.Spawned)
    broker.receive(wire.Exited)
    events = [line["event"] for line in spawner.audit()]
    assert events == ["started", "hello", "spawn", "identity", "spawned", "exited"]


def test_a_journal_that_reads_nothing_keeps_nobody_waiting(start: Start, alice: pwd.struct_passwd) -> None:
    """Its end of the pipe stays open, and the pipe gets full."""
    spawner = start(prefix=("bash", "-c", 'exec "$@" 2> >(head -n 1 >&2; exec tail --pid=$$ -f /dev/null)', "bash"))
    broker = spawner.connect()
    for _ in range(2000):
        broker.children()
    broker.spawn(1, alice.pw_name, "fail")
    broker.receive(wire.Spawned)
    broker.receive(wire.Exited)
    assert spawner.audit()[-1]["event"] == "exited"


def test_a_log_that_may_not_grow_refuses_starts(start: Start, alice: pwd.struct_passwd) -> None:
    """A limit on the size of files, setrlimit(2), ends neither the spawner nor what runs."""
    spawner = start()
    broker = spawner.connect()
    broker.spawn(1, alice.pw_name, "sleep").line()
    broker.receive(wire.Spawned)
    most = resource.prlimit(spawner.process.pid, resource.RLIMIT_FSIZE)
    size = (spawner.folder / "audit.log").stat().st_size
    resource.prlimit(spawner.process.pid, resource.RLIMIT_FSIZE, (size, most[1]))
    broker.spawn(2, alice.pw_name, "sleep")
    assert broker.receive(wire.Refused).stage == "audit"
    resource.prlimit(spawner.process.pid, resource.RLIMIT_FSIZE, most)
    assert list(broker.children()) == [uep(1)]


@pytest.mark.parametrize("kind", ["owner", "group", "others", "fifo"])
def test_a_log_that_others_can_write_is_none(tmp_path: Path, alice: pwd.struct_passwd, kind: str) -> None:
    """Whoever made it could have root seem to say anything, or keep every start waiting."""
    log = tmp_path / "a.log"
    if kind == "fifo":
        os.mkfifo(log, 0o600)
    else:
        log.touch(0o600)
        log.chmod({"owner": 0o600, "group": 0o620, "others": 0o602}[kind])
    os.chown(log, alice.pw_uid if kind == "owner" else 0, -1)
    assert _refused_to_start(tmp_path, {}) == 111
    assert kind == "fifo" or log.read_bytes() == b""


def test_a_log_that_others_may_read_is_the_administrators_choice(start: Start, tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    log.touch()
    log.chmod(0o640)
    start({"audit_log": str(log)})
    assert log.stat().st_mode & 0o777 == 0o640


def test_all_groups_are_recorded(start: Start, alice: pwd.struct_passwd, tmp_path: Path) -> None:
    """As numbers, however many there are."""
    gids = [alice.pw_gid, *range(3_000_000_000, 3_000_000_100)]
    bound = tmp_path / "etc"  # all of it, since a bound /etc/group is lost when somebody adds a group meanwhile

    def copied() -> bool:
        """Whether no file has vanished meanwhile, as those do with which accounts are made."""
        shutil.rmtree(bound, ignore_errors=True)
        return subprocess.run(["cp", "-a", "/etc", bound], timeout=60, check=False).returncode == 0

    assert until(copied)
    with (bound / "group").open("a") as table:
        table.writelines(f"twl-g{gid}:x:{gid}:{alice.pw_name}\n" for gid in gids[1:])
    spawner = start(prefix=("unshare", "--mount", "sh", "-c", f'mount --bind {bound} /etc && exec "$@"', "sh"))
    spawner.connect().spawn(1, alice.pw_name, "sleep").line()
    (line,) = (line for line in spawner.audit() if line["event"] == "identity")
    assert line["groups"] == gids


@pytest.mark.parametrize("key", ["socket", "audit_log"])
@pytest.mark.parametrize("change", ["owner", "mode", "sticky"])
def test_nothing_is_made_where_others_could_race_for_it(
    tmp_path: Path, alice: pwd.struct_passwd, key: str, change: str
) -> None:
    """Else a link in its place would be opened, or given to the broker's group."""
    folder = tmp_path / "others"
    folder.mkdir(0o755)
    if change == "owner":
        os.chown(folder, alice.pw_uid, alice.pw_gid)
    else:
        folder.chmod(0o777 if change == "mode" else 0o1777)
    assert _refused_to_start(tmp_path, {key: str(folder / "made")}) == os.EX_CONFIG
    assert not list(folder.iterdir())


def _refused_to_start(folder: Path, values: dict[str, str]) -> int:
    """The exit code of a spawner with these entries in its policy."""
    policy = {"broker_user": "root", "socket": str(folder / "s.sock"), "audit_log": str(folder / "a.log")} | values
    write_policy(folder, policy)
    argv = [sys.executable, "-m", "twinlock_spawner", "--policy", str(folder / "policy.toml")]
    return subprocess.run(argv, capture_output=True, timeout=PATIENCE, check=False).returncode


class SmallDisk:
    """A spawner whose audit log is on a disk of 64 KiB that only it has mounted, and a broker of it."""

    def __init__(self, start: Start, mode: dict[str, str], folder: Path) -> None:
        mount = 'mount -t tmpfs -o size=64k,mode=755 none "$0" && exec "$@"'
        spawner = start(
            {"audit_log": f"{folder}/audit.log"} | mode, ("unshare", "--mount", "sh", "-c", mount, str(folder))
        )
        self._disk = Path(f"/proc/{spawner.process.pid}/root{folder}")
        self.broker = spawner.connect()

    def data(self) -> bytes:
        """The audit log."""
        return (self._disk / "audit.log").read_bytes()

    def fill(self, left: int = 0) -> None:
        """Until the log has room for `left` bytes, less than a page."""
        size = len(self.data())
        pad = -size % 4096 - left
        pad += 4096 if pad < 20 else 0
        with (self._disk / "audit.log").open("ab") as log:
            log.write(b'{"event": "pad", "x": "' + b"x" * (pad - 26) + b'"}\n')
        with (self._disk / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
            while filler.write(b"x" * 4096):
                pass

    def make_room(self) -> None:
        """Undo `fill`, but for the log's own line."""
        (self._disk / "filler").unlink()


def test_a_full_disk_refuses_starts_and_ends_nothing(
    start: Start, alice: pwd.struct_passwd, mode: dict[str, str], tmp_path: Path
) -> None:
    disk = SmallDisk(start, mode, tmp_path)
    broker = disk.broker
    broker.spawn(1, alice.pw_name, "sleep").line()
    pid = broker.receive(wire.Spawned).pid
    disk.fill()
    size = len(disk.data())
    broker.spawn(2, alice.pw_name, "sleep")
    refused = broker.receive(wire.Refused)
    assert (refused.id, refused.stage) == (uep(2), "audit")
    assert "audit log" in refused.reason
    assert list(broker.children()) == [uep(1)]
    broker.send(wire.Signal(uep(1), "TERM"))
    assert broker.receive(wire.Exited).pid == pid
    assert len(disk.data()) == size
    disk.make_room()
    broker.send(wire.Noted(uep(1)))
    broker.spawn(3, alice.pw_name, "sleep")
    assert broker.receive(wire.Spawned).id == uep(3)
    assert {"noted", "spawn", "identity", "spawned"} <= {json.loads(line)["event"] for line in disk.data().splitlines()}


def test_a_line_that_a_full_disk_cut_ends_before_the_next(start: Start, mode: dict[str, str], tmp_path: Path) -> None:
    disk = SmallDisk(start, mode, tmp_path)
    disk.fill(left=30)
    assert disk.broker.children() == {}  # its line is longer than that
    disk.make_room()
    assert disk.broker.children() == {}
    *_, cut, last = disk.data().split(b"\n")[:-1]
    assert len(cut) == 30
    assert json.loads(last)["event"] == "list"


def test_a_childs_line_that_a_full_disk_cut_ends_before_the_next(
    start: Start, alice: pwd.struct_passwd, mode: dict[str, str], tmp_path: Path
) -> None:
    disk = SmallDisk(start, mode, tmp_path)
    disk.broker.spawn(1, alice.pw_name, "sleep").line()
    disk.broker.receive(wire.Spawned)
    (line,) = (line for line in disk.data().splitlines() if b'"spawn"' in line)
    disk.fill(left=len(line) + 1 + 30)
    disk.broker.spawn(2, alice.pw_name, "sleep")
    assert disk.broker.receive(wire.Refused).stage == "audit"
    disk.make_room()
    assert list(disk.broker.children()) == [uep(1)]
    *_, cut, last = disk.data().split(b"\n")[:-1]
    assert len(cut) == 30
    assert json.loads(last)["event"] == "list"


@pytest.mark.cases(2)
@pytest.mark.parametrize("policy", ["good", "bad", "gone"])
def test_a_log_that_was_moved_aside_is_begun_anew(
    start: Start, alice: pwd.struct_passwd, mode: dict[str, str], policy: str
) -> None:
    """Without a signal: a rotation mustn't depend on a policy that somebody is just editing."""
    spawner = start(mode)
    broker = spawner.connect()
    assert broker.children() == {}
    if policy == "bad":
        (spawner.folder / "policy.toml").write_text("system_uids = ")
    elif policy == "gone":
        (spawner.folder / "policy.toml").unlink()
    log, former = spawner.folder / "audit.log", spawner.folder / "audit.log.1"
    log.rename(former)
    size = former.stat().st_size
    broker.spawn(1, alice.pw_name, "sleep").line()
    broker.receive(wire.Spawned)
    events = [json.loads(line)["event"] for line in log.read_text().splitlines()]
    assert events == ["spawn", "identity", "spawned"]
    assert former.stat().st_size == size
    status = log.stat()
    assert (status.st_mode & 0o777, status.st_uid) == (0o600, 0)


def test_a_log_that_cannot_be_begun_anew_refuses_starts(start: Start, alice: pwd.struct_passwd) -> None:
    """Here a link is in its place, which isn't followed."""
    spawner = start()
    broker = spawner.connect()
    log = spawner.folder / "audit.log"
    log.rename(spawner.folder / "audit.log.1")
    log.symlink_to(spawner.folder / "elsewhere")
    broker.spawn(1, alice.pw_name, "sleep")
    assert broker.receive(wire.Refused).stage == "audit"
    assert not (spawner.folder / "elsewhere").exists()
    log.unlink()
    broker.spawn(2, alice.pw_name, "sleep").line()
    broker.receive(wire.Spawned)


_IN_OPEN, _IN_ACCESS, _IN_CREATE, _IN_MODIFY = 0x20, 0x1, 0x100, 0x2  # inotify(7)


def test_the_spawner_opens_nothing_in_a_home(start: Start, alice: pwd.struct_passwd, mode: dict[str, str]) -> None:
    for name in (".profile", ".bashrc", ".pam_environment"):
        Path(alice.pw_dir, name).touch()
    libc = ctypes.CDLL(None)
    watch = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        assert libc.inotify_add_watch(watch, alice.pw_dir.encode(), _IN_OPEN | _IN_ACCESS | _IN_CREATE | _IN_MODIFY) > 0
        broker = start(mode).connect()
        broker.spawn(1, alice.pw_name, "sleep").line()
        with pytest.raises(BlockingIOError):
            os.read(watch, 4096)
        Path(alice.pw_dir, ".profile").read_text()
        assert os.read(watch, 4096)
    finally:
        os.close(watch)


# It looks into another process's memory, which ptrace(2)'s rules allow between processes of one uid.
PEEK = "import sys; open(f'/proc/{sys.argv[1]}/mem', 'rb').close()"


def test_the_spawner_and_what_it_forks_are_not_dumpable(
    start: Start, alice: pwd.struct_passwd, mode: dict[str, str]
) -> None:
    """So a process that is root's by its uid but lacks CAP_SYS_PTRACE can't read the memory of a spawner."""
    unable = ("setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace")
    spawner = start(mode, unable)
    broker = spawner.connect()
    broker.spawn(1, alice.pw_name, "sleep").line()
    broker.receive(wire.Spawned)
    plain = subprocess.Popen([*unable, "sleep", "1000"])
    try:
        assert until(lambda: Path(f"/proc/{plain.pid}/comm").read_text() == "sleep\n")
        assert _peek(unable, plain.pid) == 0
    finally:
        plain.kill()
        plain.wait()
    assert until(
        lambda: len(children(spawner.process.pid)) == 1 + len(mode)
    )  # a keeper as well, where there are cgroups
    roots = [pid for pid in children(spawner.process.pid) if status(pid)["Uid"].split()[0] == "0"]
    assert roots  # the keeper, or the guard
    for pid in (spawner.process.pid, *roots):
        assert _peek(unable, pid) == 1


def _peek(prefix: tuple[str, ...], pid: int) -> int:
    argv = [*prefix, sys.executable, "-c", PEEK, str(pid)]
    return subprocess.run(argv, capture_output=True, timeout=60, check=False).returncode
