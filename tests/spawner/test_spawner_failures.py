"""What the kernel may refuse, or do at a bad moment: each is a clear end, and the spawner serves on."""

import errno
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from nss_rig import NameService
from proc_rig import PATIENCE, children, descriptors, status, until
from spawner_rig import Broker, Start, gone, remove_cgroups, uep, write_policy
from twinlock_wire import wire

pytestmark = pytest.mark.system


def failing(call: str, *, follow: bool = True) -> tuple[str, ...]:
    """Words before a spawner's command that let a system call fail, or lie, in it and what it forks; strace(1)."""
    if not shutil.which("strace"):
        pytest.skip("needs strace")
    name = call.partition(":")[0]
    return (
        "strace",
        "--daemonize",
        *(["--follow-forks"] if follow else []),
        "--quiet=all",
        "-o",
        "/dev/null",
        f"--trace={name}",
        f"--inject={call}",
    )


@pytest.mark.parametrize(
    ("call", "stage", "reason"),
    [
        ("setgroups:retval=0", "readback", "the kernel shows another uid, gid or groups"),
        ("setresgid:retval=0", "readback", "the kernel shows another uid, gid or groups"),
        ("setresuid:retval=0", "readback", "the kernel shows another uid, gid or groups"),
        ("setuid:retval=0", "readback", "root could be regained"),
        ("getppid:retval=1", "parent", "the spawner ended meanwhile"),
    ],
)
def test_a_call_that_fails_in_the_child(
    start: Start, cgroup: str, alice: pwd.struct_passwd, call: str, stage: str, reason: str
) -> None:
    broker = start({"cgroup": cgroup}, failing(call)).connect()
    broker.spawn(1, alice.pw_name)
    refused = broker.receive(wire.Refused)
    assert (refused.id, refused.stage) == (uep(1), stage)
    assert refused.reason.startswith(reason)
    assert broker.children() == {}


def test_what_becomes_the_user_has_nothing_of_the_spawners_open(
    start: Start, cgroup: str, alice: pwd.struct_passwd
) -> None:
    """It is stopped with its first moment as the user: the report is its only socket, and the log is closed."""
    spawner = start({"cgroup": cgroup}, failing("setresuid:signal=STOP"))
    spawner.connect().spawn(1, alice.pw_name, "sleep")
    procs = Path(cgroup, str(spawner.process.pid), f"u-{alice.pw_name}", uep(1), "cgroup.procs")
    assert until(lambda: procs.exists() and procs.read_text() != "")
    (pid,) = map(int, procs.read_text().split())
    assert until(lambda: status(pid)["Uid"].split() == [str(alice.pw_uid)] * 4)
    links = [link for number, link in descriptors(pid).items() if number > 2]
    assert sum(link.startswith("socket:") for link in links) == 1
    assert {link.partition(":")[0] for link in links} == {"socket", "pipe", "/memfd"}


@pytest.mark.parametrize("error", ["EPERM", "ENOSYS"])
def test_a_container_that_refuses_keyrings_is_told_at_once(tmp_path: Path, error: str) -> None:
    """Not by each endpoint's user."""
    paths = {"socket": str(tmp_path / "s.sock"), "audit_log": str(tmp_path / "a.log")}
    write_policy(tmp_path, {"broker_user": pwd.getpwuid(os.getuid()).pw_name} | paths)
    argv = [sys.executable, "-m", "twinlock_spawner", "--policy", str(tmp_path / "policy.toml")]
    prefix = failing(f"keyctl:error={error}")
    ended = subprocess.run([*prefix, *argv], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (ended.returncode, "keyctl(2)" in ended.stderr) == (111, True)
    assert not (tmp_path / "s.sock").exists()


@pytest.fixture
def processes() -> Iterator[Path]:
    """A cgroup whose processes can be limited in number."""
    for root in (Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup")):  # version 1, version 2
        folder = root / f"twl-{os.getpid()}"
        if root.is_dir() and os.access(root, os.W_OK):
            folder.mkdir()
            if (folder / "pids.max").exists():
                break
            folder.rmdir()
    else:
        pytest.skip("needs the controller pids of cgroups")
    yield folder
    remove_cgroups(folder)


@pytest.mark.parametrize(("pam", "room", "stage"), [(False, 1, "fork"), (True, 1, "fork"), (True, 2, "session")])
def test_a_guard_that_can_not_fork(
    processes: Path, start: Start, alice: pwd.struct_passwd, plain: str, pam: bool, room: int, stage: str
) -> None:
    """The start is refused as one that the spawner itself can't fork for; what was forked until then ends.

    The process that closes the spawner's descriptors may take the room of one of them.
    """
    spawner = start({"pam_service": plain * pam, "start_rate_per_user": 1000})
    (processes / "cgroup.procs").write_text(str(spawner.process.pid))
    (processes / "pids.max").write_text(str(1 + room))
    broker = spawner.connect()

    def refusal() -> tuple[str, str]:
        broker.spawn(1, alice.pw_name, "sleep")
        _, refused, reason = broker.receive(wire.Refused)
        assert until(lambda: children(spawner.process.pid) == [])
        return refused, reason

    assert until(lambda: refusal() == (stage, "[Errno 11] Resource temporarily unavailable"))
    (processes / "pids.max").write_text("max")
    broker.spawn(1, alice.pw_name, "sleep")
    broker.receive(wire.Spawned)


def test_a_guard_that_belongs_to_nobody_any_more(start: Start, alice: pwd.struct_passwd) -> None:
    """It ends, since nobody would end it."""
    broker = start({}, failing("getppid:retval=1")).connect()
    broker.spawn(1, alice.pw_name)
    refused = broker.receive(wire.Refused)
    assert (refused.id, refused.stage, refused.reason) == (uep(1), "fork", "the parent process ended meanwhile")


def test_a_bounding_set_that_is_not_emptied(start: Start, alice: pwd.struct_passwd) -> None:
    broker = start({}, failing("prctl:retval=0")).connect()
    broker.spawn(1, alice.pw_name)
    refused = broker.receive(wire.Refused)
    assert (refused.id, refused.stage) == (uep(1), "capabilities")
    assert refused.reason.startswith("capabilities are left: CapBnd")


def test_a_capability_that_is_not_dropped(start: Start, alice: pwd.struct_passwd) -> None:
    broker = start({}, ("setpriv", "--inh-caps=+net_raw", *failing("capset:retval=0"))).connect()
    broker.spawn(1, alice.pw_name)
    refused = broker.receive(wire.Refused)
    assert (refused.id, refused.stage) == (uep(1), "capabilities")
    assert refused.reason.startswith("capabilities are left: CapInh")


def test_a_start_for_which_there_is_no_process(start: Start, cgroup: str, alice: pwd.struct_passwd) -> None:
    """It is refused and leaves no cgroup; the next one is carried out."""
    broker = start({"cgroup": cgroup}, failing("clone3:error=EAGAIN:when=2")).connect()
    broker.spawn(1, alice.pw_name, "sleep")
    refused = broker.receive(wire.Refused)
    assert (refused.stage, "as many processes as it may have" in refused.reason) == ("fork", True)
    assert list(Path(cgroup).glob("*/*/")) == []
    broker.spawn(1, alice.pw_name, "sleep")
    pid = broker.receive(wire.Spawned).pid
    (own,) = Path(cgroup).glob("*/*/*/")
    assert (own / "cgroup.procs").read_text().split() == [str(pid)]


@pytest.mark.parametrize("error", ["ENOSYS", "EPERM"])
def test_a_container_that_forbids_clone3(start: Start, cgroup: str, tmp_path: Path, error: str) -> None:
    """As Docker does by default. A policy with a cgroup is refused at once, not at each endpoint; nothing is left."""
    words = failing(f"clone3:error={error}")
    paths = {"socket": str(tmp_path / "spawner.sock"), "audit_log": str(tmp_path / "audit.log")}
    write_policy(tmp_path, {"broker_user": "root", "cgroup": cgroup, **paths})
    argv = [*words, sys.executable, "-m", "twinlock_spawner", "--policy", str(tmp_path / "policy.toml")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE, cwd="/", check=False)
    assert done.returncode == os.EX_CONFIG
    assert f"cgroup: [Errno {getattr(errno, error)}]" in done.stderr
    assert "no process can be made" in done.stderr
    assert list(Path(cgroup).glob("*/")) == []
    Path(cgroup).rmdir()


def test_a_cgroup_that_cannot_be_removed(start: Start, cgroup: str, tmp_path: Path) -> None:
    """Endpoints' ends would never be told."""
    paths = {"socket": str(tmp_path / "spawner.sock"), "audit_log": str(tmp_path / "audit.log")}
    write_policy(tmp_path, {"broker_user": "root", "cgroup": cgroup, **paths})
    words = failing("rmdir:error=EBUSY")
    argv = [*words, sys.executable, "-m", "twinlock_spawner", "--policy", str(tmp_path / "policy.toml")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE, cwd="/", check=False)
    assert done.returncode == os.EX_CONFIG
    assert "what has ended stays in it" in done.stderr
    remove_cgroups(Path(cgroup))


def test_a_new_policy_with_a_cgroup_that_a_container_forbids(
    start: Start, cgroup: str, alice: pwd.struct_passwd
) -> None:
    """It doesn't take over, and endpoints go on."""
    spawner = start({}, failing("clone3:error=ENOSYS"))
    broker = spawner.connect()
    broker.spawn(1, alice.pw_name, "sleep").line()
    pid = broker.receive(wire.Spawned).pid
    values = tomllib.loads((spawner.folder / "policy.toml").read_text())
    write_policy(spawner.folder, values | {"cgroup": cgroup})
    spawner.process.send_signal(signal.SIGHUP)
    line = spawner.said.wait_for('"reload-failed"')
    assert "no process can be made" in json.loads(line)["reason"]
    assert broker.children()[uep(1)].pid == pid
    Path(cgroup).rmdir()


def test_a_container_that_forbids_clone3_has_guards(start: Start, alice: pwd.struct_passwd) -> None:
    broker = start({}, failing("clone3:error=ENOSYS")).connect()
    broker.spawn(1, alice.pw_name, "sleep")
    broker.receive(wire.Spawned)


def test_a_start_for_which_there_is_no_cgroup(start: Start, cgroup: str, alice: pwd.struct_passwd) -> None:
    """The reason names the folder; when one can be made again, the start is carried out."""
    spawner = start({"cgroup": cgroup})
    broker = spawner.connect()
    own = Path(cgroup, str(spawner.process.pid))
    account = own / f"u-{alice.pw_name}"
    for room, folder in (("0", account), ("1", account / uep(1))):
        (own / "cgroup.max.descendants").write_text(room)
        broker.spawn(1, alice.pw_name, "sleep")
        refused = broker.receive(wire.Refused)
        assert (refused.stage, refused.reason.endswith(f"'{folder}'")) == ("cgroup", True)
        assert broker.children() == {}
        assert not account.exists()
    (own / "cgroup.max.descendants").write_text("max")
    broker.spawn(1, alice.pw_name, "sleep")
    broker.receive(wire.Spawned)


@pytest.mark.parametrize("word", ["TERM", "KILL"])
def test_a_signal_that_cannot_be_sent_now_is_not_forgotten(
    start: Start, alice: pwd.struct_passwd, mode: dict[str, str], word: str
) -> None:
    """The first one is lost; after the grace period, or a second, comes KILL."""
    spawner = start(mode, failing("kill:error=EPERM:when=1", follow=False))
    broker = spawner.connect()
    broker.spawn(1, alice.pw_name, "sleep")
    broker.receive(wire.Spawned)
    broker.send(wire.Signal(uep(1), word))
    assert os.waitstatus_to_exitcode(broker.receive(wire.Exited).status) == -signal.SIGKILL


def test_a_program_that_ends_before_the_spawner_knows_that_it_runs(
    start: Start, cgroup: str, alice: pwd.struct_passwd
) -> None:
    """The spawner is held up where it asks for ended children, between the start and what the child reports."""
    broker = start({"cgroup": cgroup}, failing("wait4:delay_enter=3000000")).connect()
    broker.spawn(1, alice.pw_name, "fail")
    spawned = broker.receive(wire.Spawned)
    assert broker.receive(wire.Exited) == wire.Exited(uep(1), spawned.pid, 7 << 8)


def test_a_helper_of_the_name_service_that_keeps_everything_open(
    start: Start, cgroup: str, names: NameService, alice: pwd.struct_passwd
) -> None:
    """It keeps the report open, so that only the program's end shows that this has run; the next start is free."""
    spawner = start({"cgroup": cgroup}, names.prefix)
    broker = spawner.connect()
    with names.helps(alice.pw_name, Path(cgroup).parent):
        broker.spawn(1, alice.pw_name, "fail")
        spawned = broker.receive(wire.Spawned)
        assert broker.receive(wire.Exited) == wire.Exited(uep(1), spawned.pid, 7 << 8)
        broker.send(wire.Noted(uep(1)))
        assert broker.children() == {}


@pytest.mark.cases(1)
@pytest.mark.parametrize("user", ["twl-babbler", "twl-liar"])
def test_a_name_service_that_writes_into_the_report(
    start: Start, names: NameService, alice: pwd.struct_passwd, mode: dict[str, str], user: str
) -> None:
    """The start has failed, and nobody believes the stage that is named there; the spawner serves on."""
    broker = start(mode, names.prefix).connect()
    broker.spawn(1, user)
    refused = broker.receive(wire.Refused)
    assert (refused.stage, "said something that is no report" in refused.reason) == ("fork", True)
    broker.spawn(2, alice.pw_name, "sleep")
    assert broker.receive(wire.Spawned).id == uep(2)


def test_a_keeper_whose_spawner_ended_before_it_could_watch_ends(start: Start, cgroup: str) -> None:
    """It is held up where it leaves the spawner's process group, which is before it watches."""
    spawner = start({"cgroup": cgroup}, failing("setpgid:delay_enter=10000000"))
    own = Path(cgroup) / str(spawner.process.pid)
    assert own.is_dir()
    spawner.process.kill()
    spawner.process.wait(60)
    assert until(lambda: not own.exists())


def test_a_connection_that_cannot_be_watched_is_refused(start: Start) -> None:
    """It is the third, after the listening socket and what wakes the loop up."""
    spawner = start({}, failing("epoll_ctl:error=ENOSPC:when=3"))
    assert spawner.connect_raw().hung_up()
    assert (spawner.audit()[-1]["event"], spawner.audit()[-1]["reason"]) == (
        "connection-refused",
        "[Errno 28] No space left on device",
    )
    assert spawner.connect().children() == {}


def test_a_connection_for_which_there_is_no_descriptor_waits(start: Start) -> None:
    """That is a surprise, which the log tells; the next look finds room."""
    spawner = start({}, failing("accept4:error=EMFILE:when=1"))
    assert spawner.connect().children() == {}
    (surprise,) = (line for line in spawner.audit() if line["event"] == "surprise")
    assert "Too many open files" in surprise["reason"]


def test_a_broker_that_goes_in_the_same_moment_as_its_start_succeeds(
    start: Start, names: NameService, alice: pwd.struct_passwd, mode: dict[str, str]
) -> None:
    """Its last request comes in one turn with the reply that can't be sent any more."""
    spawner = start(mode, names.prefix)
    others = children(spawner.process.pid)
    broker = spawner.connect()
    with names.hangs(alice.pw_name):
        output = broker.spawn(1, alice.pw_name, "sleep")
        assert until(lambda: children(spawner.process.pid) != others)
        assert broker.children() == {}
        # Asleep after that, it waits for the child's report; that then comes before what the broker still sends.
        assert until(lambda: status(spawner.process.pid)["State"].startswith("S"))
        spawner.process.send_signal(signal.SIGSTOP)
    assert output.line() == "up\n"
    broker.send(wire.List())
    broker.close()
    spawner.process.send_signal(signal.SIGCONT)
    [child] = spawner.connect().children().values()
    assert (child.id, child.ended) == (uep(1), None)


def test_a_spawner_with_more_than_a_thousand_descriptors_starts_endpoints(
    start: Start, alice: pwd.struct_passwd, mode: dict[str, str]
) -> None:
    """As many as there are starts whose name service hangs, and some more; select(2) can't have those."""
    code = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
for _ in range(1100):
    os.set_inheritable(os.dup(0), True)
os.execvp(sys.argv[1], sys.argv[1:])
"""
    policy = mode | {"rlimits": {"nofile": [4096, 4096]}}  # the child has them too, until it executes the program
    broker = start(policy, (sys.executable, "-c", code)).connect()
    output = broker.spawn(1, alice.pw_name)
    broker.receive(wire.Spawned)
    assert output.json()["fds"] == [0, 1, 2]


def test_the_socket_of_a_spawner_that_was_killed_is_replaced(start: Start) -> None:
    spawner = start()
    spawner.process.kill()
    spawner.process.wait(60)
    assert spawner.socket.is_socket()
    again = start({"socket": str(spawner.socket), "audit_log": str(spawner.folder / "audit.log")})
    assert Broker(again.socket).receive(wire.Hello)
    assert not gone(again.process.pid, 0)
    os.unlink(spawner.socket)


@pytest.mark.parametrize("guard", ["cgroup", "pam"])
def test_a_name_service_that_ignores_ends_of_children(
    request: pytest.FixtureRequest, start: Start, names: NameService, alice: pwd.struct_passwd, plain: str, guard: str
) -> None:
    """Neither the program does that, though exec hands it on, nor a guard, which would miss the program's end."""
    kept = {"cgroup": request.getfixturevalue("cgroup")} if guard == "cgroup" else {"pam_service": plain}
    broker = start(kept, names.prefix).connect()
    with names.deafens(alice.pw_name):
        ignored = int(broker.spawn(1, alice.pw_name, "report").json()["status"]["SigIgn"], 16)
        broker.receive(wire.Spawned)
        broker.receive(wire.Exited)
        broker.spawn(2, alice.pw_name, "fail")
        broker.receive(wire.Spawned)
        assert broker.receive(wire.Exited).status == 7 << 8
    assert not ignored & 1 << signal.SIGCHLD - 1
