"""The socket: who may speak, and what happens to one who breaks the protocol."""

import ast
import contextlib
import json
import os
import pwd
import resource
import socket
import stat
import struct
import sys
from pathlib import Path

import msgpack
import pytest
from nss_rig import NameService
from proc_rig import descriptors, until
from spawner_rig import MANAGER, UNMEASURED, Broker, Start, acting_as, uep
from twinlock_wire import wire

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
SPAWN = wire.encode(wire.Spawn(uep(1), "twl-alice", f"uep.{MANAGER}.{uep(1)}", "sleep"))
LIST = wire.encode(wire.List())


def test_only_the_brokers_uid_may_speak(start: Start, alice: pwd.struct_passwd) -> None:
    spawner = start({"broker_user": alice.pw_name})
    assert spawner.connect_raw().hung_up()  # root itself is not the broker
    assert spawner.audit()[-1]["event"] == "connection-refused"
    with acting_as(alice):
        broker = spawner.connect()
        assert broker.children() == {}
    broker.socket.send(LIST)  # the same process on the same connection, as root
    assert broker.hung_up()
    assert "another process" in spawner.audit()[-1]["reason"]


def test_a_later_change_of_uid_makes_nobody_the_broker(start: Start, alice: pwd.struct_passwd) -> None:
    spawner = start()
    spawner.socket.chmod(0o666)
    with acting_as(alice):
        stranger = spawner.connect_raw()
    assert stranger.hung_up()


def test_nothing_inherits_the_connection(start: Start, alice: pwd.struct_passwd, mode: dict[str, str]) -> None:
    spawner = start(mode)
    spawner.connect().close()
    spawner.said.wait_for("disconnected")
    before = set(descriptors(spawner.process.pid).values())
    broker = spawner.connect()
    (connection,) = set(descriptors(spawner.process.pid).values()) - before
    broker.spawn(1, alice.pw_name, "sleep").line()
    # For a moment a process that helps to close what came with the start has copies of all.
    assert until(lambda: _holders(connection) == {spawner.process.pid})


def _holders(file: str) -> set[int]:
    """The processes that have a file open, by what the kernel calls it."""
    holders = set()
    for pid in (int(path.name) for path in Path("/proc").glob("[0-9]*")):
        with contextlib.suppress(OSError):  # ended meanwhile, or not ours to look at
            holders |= {pid} if file in descriptors(pid).values() else set()
    return holders


def test_only_the_brokers_group_may_connect(start: Start, alice: pwd.struct_passwd, bob: pwd.struct_passwd) -> None:
    spawner = start({"broker_user": alice.pw_name})
    with acting_as(bob), pytest.raises(PermissionError):
        Broker(spawner.socket)


def test_the_socket_is_never_abstract(start: Start) -> None:
    spawner = start()
    names = [line.split()[-1] for line in Path("/proc/net/unix").read_text().splitlines()]
    assert str(spawner.socket) in names
    assert not [name for name in names if name.startswith("@") and str(spawner.folder) in name]


# A service manager, another process, listens and hands the socket over as sd_listen_fds(3) says.
HAND_OVER = """
import os, socket, sys
listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
listener.bind(sys.argv[1])
if os.fork() == 0:
    listener.listen()
    os._exit(0)
os.wait()
os.dup2(os.dup(listener.fileno()), 3)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
os.execv(sys.argv[2], sys.argv[2:])
"""


def test_a_socket_of_the_service_manager_is_taken_over(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "handed-over.sock"
    spawner = start(prefix=(sys.executable, "-c", HAND_OVER, str(path)))
    assert not spawner.socket.exists()
    spawner.socket = path
    broker = spawner.connect()
    assert broker.children() == {}
    pid = struct.unpack("3i", broker.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
    assert pid == spawner.process.pid, "the broker sees by it whether the spawner has ended"


@pytest.mark.parametrize("kind", ["", "@"], ids=["by path", "abstract"])
def test_the_service_manager_is_told_that_it_serves(start: Start, tmp_path: Path, kind: str) -> None:
    name = f"{kind}{tmp_path}/notify@1.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name[1:] if kind else name)
        manager.settimeout(60)
        start(prefix=("env", f"NOTIFY_SOCKET={name}"))
        assert manager.recv(100) == b"READY=1"


def test_the_socket_is_for_the_brokers_group(start: Start, alice: pwd.struct_passwd) -> None:
    status = (start({"broker_user": alice.pw_name}).folder / "spawner.sock").stat()
    assert stat.S_IMODE(status.st_mode) == 0o660
    assert (status.st_uid, status.st_gid) == (0, alice.pw_gid)


def test_the_newest_connection_is_the_only_one(start: Start) -> None:
    spawner = start()
    first = spawner.connect()
    second = spawner.connect()
    assert first.hung_up()
    assert second.children() == {}
    assert "disconnected" in [line["event"] for line in spawner.audit()]


@pytest.mark.cases(2)
@pytest.mark.parametrize(
    ("data", "fds"),
    [
        (b"junk", 0),
        (msgpack.packb({"type": "exec", "argv": ["/bin/sh"]}), 0),
        (msgpack.packb({"type": "noted"}), 0),
        (msgpack.packb({"type": "noted", "id": uep(7), "pid": 1}), 0),
        (msgpack.packb({"type": "noted", "id": 7}), 0),
        (msgpack.packb({"type": "signal", "id": "4711", "signal": "KILL"}), 0),
        (msgpack.packb({"type": "signal", "id": uep(7), "signal": "HUP"}), 0),
        (LIST + LIST, 0),
        (LIST[:-1], 0),
        (b"", 0),
        (SPAWN, 0),
        (SPAWN, 1),
        (SPAWN, 3),
        (SPAWN, 100),
        (LIST, 2),
        (msgpack.packb({"type": "list", "pad": "x" * wire.MAX_DATAGRAM}), 0),
    ],
    ids=[
        *(
            "junk",
            "unknown",
            "missing-key",
            "extra-key",
            "wrong-type",
            "pid-for-id",
            "other-signal",
            "two-in-one",
            "half",
        ),
        *("empty", "no-fds", "one-fd", "three-fds", "hundred-fds", "list-with-fds", "too-long"),
    ],
)
def test_a_broken_protocol_ends_the_connection_only(
    start: Start, alice: pwd.struct_passwd, data: bytes, fds: int
) -> None:
    spawner = start()
    broker = spawner.connect()
    broker.spawn(7, alice.pw_name, "sleep").line()
    broker.receive(wire.Spawned)
    assert list(broker.children()) == [uep(7)]  # by now nothing of the start is open any more
    before = len(os.listdir(f"/proc/{spawner.process.pid}/fd"))
    broker.send_bytes(data, [0] * fds)
    assert broker.hung_up()
    line = spawner.audit()[-1]
    assert line["event"] == "disconnected"
    assert len(line["reason"]) <= 500
    assert list(spawner.connect().children()) == [uep(7)]
    assert len(os.listdir(f"/proc/{spawner.process.pid}/fd")) == before


def test_descriptors_that_could_not_be_received_end_the_connection(start: Start) -> None:
    """The spawner has no room for any, so none came; that there were some is all that the kernel says."""
    spawner = start()
    broker = spawner.connect()
    pid = spawner.process.pid
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    first_free = min(set(range(limits[0])) - set(descriptors(pid)))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (first_free, limits[1]))
    broker.send_bytes(LIST, [0])
    assert broker.hung_up()
    resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
    assert "List with 0 file descriptors, or more" in spawner.audit()[-1]["reason"]
    assert spawner.connect().children() == {}


@pytest.mark.cases(4)
@pytest.mark.parametrize(
    ("user", "program", "stage"),
    [
        ("no-such-account", "sleep", "lookup"),
        ("root", "sleep", "policy"),
        ("", "shell", "policy"),
        ("", "folder", "exec"),
        ("", "sleep", "limit"),
        ("", "sleep", "duplicate"),
    ],
)
def test_a_start_that_is_refused_leaves_no_descriptor(
    start: Start, alice: pwd.struct_passwd, mode: dict[str, str], user: str, program: str, stage: str
) -> None:
    spawner = start({"max_children": 1 if stage == "limit" else 2, "programs": {"folder": ["/etc"]}} | mode)
    broker = spawner.connect()
    broker.spawn(7, alice.pw_name, "sleep").line()
    broker.receive(wire.Spawned)
    broker.children()  # answered in a later turn of the loop, when what that start used is closed
    before = descriptors(spawner.process.pid)
    broker.spawn(7 if stage == "duplicate" else 1, user or alice.pw_name, program)
    assert broker.receive(wire.Refused).stage == stage
    assert until(lambda: descriptors(spawner.process.pid) == before)


def test_a_start_without_a_descriptor_to_spare_is_refused(start: Start, alice: pwd.struct_passwd) -> None:
    spawner = start()
    broker = spawner.connect()
    before = descriptors(spawner.process.pid)
    limits = resource.prlimit(spawner.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(spawner.process.pid, resource.RLIMIT_NOFILE, (max(before) + 4, limits[1]))  # its two and one more
    broker.spawn(1, alice.pw_name, "sleep")
    assert broker.receive(wire.Refused).stage == "fork"
    assert until(lambda: descriptors(spawner.process.pid) == before)
    resource.prlimit(spawner.process.pid, resource.RLIMIT_NOFILE, limits)
    broker.spawn(2, alice.pw_name, "sleep")
    broker.receive(wire.Spawned)


def test_a_cgroup_that_there_is_no_descriptor_for_is_removed(
    start: Start, cgroup: str, alice: pwd.struct_passwd
) -> None:
    spawner = start({"cgroup": cgroup})
    broker = spawner.connect()
    before = descriptors(spawner.process.pid)
    limits = resource.prlimit(spawner.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(spawner.process.pid, resource.RLIMIT_NOFILE, (max(before) + 5, limits[1]))  # and the connection's
    broker.spawn(1, alice.pw_name, "sleep")
    refused = broker.receive(wire.Refused)
    assert (refused.stage, refused.reason.endswith(f"{uep(1)}'")) == ("cgroup", True)
    assert list(Path(cgroup).glob("*/*/")) == []
    resource.prlimit(spawner.process.pid, resource.RLIMIT_NOFILE, limits)
    broker.spawn(1, alice.pw_name, "sleep")
    broker.receive(wire.Spawned)


def test_received_descriptors_are_close_on_exec(
    start: Start, alice: pwd.struct_passwd, names: NameService, mode: dict[str, str]
) -> None:
    spawner = start(mode, names.prefix)
    with names.hangs(alice.pw_name):
        spawner.connect().spawn(1, alice.pw_name)
        child = names.asked_by(spawner.process.pid)
        (document,) = (fd for fd, link in descriptors(child).items() if "memfd:stdin" in link)
        information = Path(f"/proc/{child}/fdinfo/{document}").read_text()
    (flags,) = (line.split()[1] for line in information.splitlines() if line.startswith("flags:"))
    assert int(flags, 8) & os.O_CLOEXEC


def _root_modules() -> dict[Path, ast.Module]:
    """What runs as root, parsed."""
    paths = [*ROOT.glob("spawner/**/*.py"), *ROOT.glob("shared/twinlock_wire/*.py")]
    return {path: ast.parse(path.read_text()) for path in paths}


def test_root_reads_no_pickle_and_no_yaml_and_runs_no_text() -> None:
    forbidden = {"pickle", "marshal", "shelve", "yaml", "importlib", "runpy", "pkgutil"}
    forbidden |= {"eval", "exec", "compile", "__import__", "import_module", "system", "popen", "shell"}
    for path, tree in _root_modules().items():
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        names |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        names |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names |= {str(node.module).partition(".")[0], *(alias.name for alias in node.names)}
        assert not names & forbidden, path


@pytest.mark.parametrize("path", ["/bin/sh", "../x", "a/b", ".", "..", "/", "x\0y"])
@pytest.mark.parametrize("kind", wire.REQUESTS.values())
def test_no_field_of_a_request_can_be_a_path(kind: type[wire.Request], path: str) -> None:
    legal = {"id": uep(1), "user": "alice", "name": f"uep.{MANAGER}.{uep(1)}", "program": "sleep", "signal": "TERM"}
    legal["command"] = "0badcafe"
    for name in kind._fields:
        values = {field: legal[field] for field in kind._fields} | {name: path}
        with pytest.raises(wire.WireError):
            wire.decode(msgpack.packb({"type": kind.__name__.lower()} | values), wire.REQUESTS)


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
    first = ["started", "hello", "spawn", "identity", "spawned", "exited"]
    assert events == [*first, "spawn", "refused"]
    assert {line["command"] for line in lines[2:6]} == {""}
    assert lines[3]["uid"] == alice.pw_uid
    assert stat.S_IMODE((spawner.folder / "audit.log").stat().st_mode) == 0o600


def test_nothing_starts_that_the_audit_log_cannot_hold(start: Start, alice: pwd.struct_passwd, tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    log.write_bytes(b"x" * 16383 + b"\n")
    log.chmod(0o600)
    broker = start({"audit_log": str(log)}, (*UNMEASURED, "prlimit", "--fsize=16384")).connect()
    broker.spawn(1, alice.pw_name, "sleep")
    refused = broker.receive(wire.Refused)
    assert refused.stage == "audit"
    assert broker.children() == {}


def test_a_request_that_the_audit_log_cannot_hold_starts_no_process(
    start: Start, names: NameService, alice: pwd.struct_passwd
) -> None:
    """One would hang with the name service here, and be ended for that. No file may be larger than the log is."""
    spawner = start({"exec_timeout": 5}, names.prefix)
    broker = spawner.connect()
    assert broker.children() == {}
    size = (spawner.folder / "audit.log").stat().st_size
    limits = resource.prlimit(spawner.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(spawner.process.pid, resource.RLIMIT_FSIZE, (size, limits[1]))
    with names.hangs(alice.pw_name):
        broker.spawn(1, alice.pw_name, "sleep")
        assert broker.receive(wire.Refused).stage == "audit"
    resource.prlimit(spawner.process.pid, resource.RLIMIT_FSIZE, limits)


def test_root_runs_no_c_parser_and_no_package_but_two(start: Start) -> None:
    spawner = start(prefix=UNMEASURED)
    spawner.connect()
    pid = spawner.process.pid
    maps = Path(f"/proc/{pid}/maps").read_text()
    libraries = {line.split()[-1] for line in maps.splitlines() if "site-packages" in line}
    assert {Path(library).name.partition(".")[0] for library in libraries} == {"_prctl"}
    assert b"-I" in Path(f"/proc/{pid}/cmdline").read_bytes() or "twinlock-spawner" in json.dumps(
        Path(f"/proc/{pid}/cmdline").read_text()
    )
