"""What a program starts with: of the user and the policy, and nothing of the spawner or the broker."""

import os
import pwd
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nss_rig import NameService
from proc_rig import descriptors, status, until
from spawner_rig import PYTHON, Start, uep
from twinlock_wire import wire

pytestmark = pytest.mark.system

# A service manager that leaves the spawner much that no endpoint should have.
SURROUNDINGS = """
import ctypes, os, resource, signal, sys
for number in (signal.SIGPIPE, signal.SIGHUP, signal.SIGUSR1, signal.SIGQUIT):
    signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGCHLD, signal.SIGUSR2, signal.SIGRTMIN})
os.umask(0)
os.chdir("/var")
os.setgroups([0, 4, 24])
os.dup2(os.open("/etc/shadow", os.O_RDONLY), 77)
resource.setrlimit(resource.RLIMIT_NOFILE, (500, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
open("/proc/self/oom_score_adj", "w").write("300")
os.environ |= {"LD_LIBRARY_PATH": "/nonexistent", "PYTHONPATH": "/nonexistent", "BASH_ENV": "/nonexistent",
               "LC_ALL": "C", "IFS": "x", "XDG_RUNTIME_DIR": "/run/user/0", "LISTEN_FDS": "0", "SECRET": "x"}
keys = ctypes.CDLL(None)
assert keys.syscall({keyctl}, 1, b"twl-service") > 0  # KEYCTL_JOIN_SESSION_KEYRING
assert keys.syscall({add_key}, b"user", b"twl-secret", b"x", 1, -3) > 0  # into the session's keyring
assert keys.syscall({keyctl}, 10, -3, b"user", b"twl-secret", 0) > 0  # KEYCTL_SEARCH
os.execv(sys.argv[1], sys.argv[1:])
"""
CALLS = {"x86_64": (248, 250), "aarch64": (217, 219), "ppc64le": (269, 271)}  # add_key(2), keyctl(2)

# Signals 32 and 33, which the C library keeps for its threads: nobody can set them by sigaction(2), and some service
# that the tests run under may leave them ignored.
KEPT = 0b11 << 31

# It says who it is and stops, a shell that has changed nothing of what it was started with.
STILL = ["/bin/sh", "-c", "echo $$; kill -STOP $$"]

# What only the process itself can ask: prctl(2), keyctl(2).
ASK = """
import ctypes, json, os, sys
libc, death, system_call = ctypes.CDLL(None), ctypes.c_int(), {keyctl}
libc.prctl(2, ctypes.byref(death))
found = libc.syscall(system_call, 10, -3, b"user", b"twl-secret", 0)
print(json.dumps({"death": death.value, "securebits": libc.prctl(27), "key": found, "parent": os.getppid(),
                  "subreaper": libc.prctl(37, ctypes.byref(death)) or death.value}), flush=True)
"""


def _with_calls(text: str) -> str:
    add_key, keyctl = CALLS[os.uname().machine]
    return text.replace("{add_key}", str(add_key)).replace("{keyctl}", str(keyctl))


def _surrounded() -> tuple[str, ...]:
    return (sys.executable, "-c", _with_calls(SURROUNDINGS))


@pytest.mark.parametrize("no_new_privs", [True, False])
def test_what_a_program_starts_with(
    start: Start, alice: pwd.struct_passwd, mode: dict[str, str], no_new_privs: bool
) -> None:
    """The kernel's word for all of it, whatever the spawner was started with."""
    environment = {"SITE": "x", "HOME": "/nonexistent", "USER": "root", "LOGNAME": "root", "SHELL": "/bin/nothing"}
    own = {"no_new_privs": no_new_privs, "environment": environment, "rlimits": {"nofile": [64, 128], "core": [0, 0]}}
    spawner = start({"programs": {"still": STILL}} | own | mode, _surrounded())
    broker = spawner.connect()
    pid = int(broker.spawn(1, alice.pw_name, "still").line())
    assert until(lambda: status(pid)["State"].startswith("T"))
    seen = status(pid)

    assert seen["Uid"].split() == [str(alice.pw_uid)] * 4
    assert seen["Gid"].split() == [str(alice.pw_gid)] * 4
    assert seen["Groups"].split() == [str(alice.pw_gid)]
    assert {seen[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {"0" * 16}
    assert seen["CapBnd"] == ("0" * 16 if no_new_privs else status(spawner.process.pid)["CapBnd"])
    assert seen["NoNewPrivs"] == str(int(no_new_privs))
    assert seen["Seccomp"] == "0"
    assert seen["Umask"] == "0077"
    assert seen["Threads"] == "1"
    assert not any(int(seen[name], 16) & ~KEPT for name in ("SigIgn", "SigBlk", "SigPnd", "ShdPnd"))

    fds = descriptors(pid)
    assert set(fds) == {0, 1, 2}
    assert "memfd:stdin" in fds[0]
    assert fds[1] == fds[2]
    assert os.readlink(f"/proc/{pid}/cwd") == alice.pw_dir
    assert os.readlink(f"/proc/{pid}/root") == "/"
    assert os.getsid(pid) == os.getpgid(pid) == pid
    assert Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[4] == "0"  # no controlling terminal
    assert Path(f"/proc/{pid}/oom_score_adj").read_text() == "0\n"
    limits = Path(f"/proc/{pid}/limits").read_text()
    assert [line.split()[3:5] for line in limits.splitlines() if line.startswith("Max open files")] == [["64", "128"]]
    assert [line.split()[4:6] for line in limits.splitlines() if line.startswith("Max core")] == [["0", "0"]]
    variables = Path(f"/proc/{pid}/environ").read_text().split("\0")[:-1]
    assert dict(entry.split("=", 1) for entry in variables) == {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "SITE": "x",
        "HOME": alice.pw_dir,
        "USER": alice.pw_name,
        "LOGNAME": alice.pw_name,
        "SHELL": alice.pw_shell,
    }
    arguments = Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]
    assert arguments[:-1] == STILL
    assert arguments[-1].endswith(uep(1))
    (cgroup,) = (line for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines() if line.startswith("0::"))
    assert cgroup.endswith(f"/{uep(1)}") == bool(mode)


def test_what_a_name_service_leaves_open_is_no_programs(
    start: Start, alice: pwd.struct_passwd, names: NameService, mode: dict[str, str]
) -> None:
    assert start(mode, names.prefix).connect().spawn(1, alice.pw_name).json()["fds"] == [0, 1, 2]


def test_what_only_the_program_itself_can_ask(start: Start, alice: pwd.struct_passwd, mode: dict[str, str]) -> None:
    spawner = start({"programs": {"ask": [*PYTHON, _with_calls(ASK)]}} | mode, _surrounded())
    told = spawner.connect().spawn(1, alice.pw_name, "ask").json()
    assert told["death"] == signal.SIGKILL  # what comes when its parent ends
    assert told["securebits"] == 0
    assert told["key"] == -1  # nothing of the service's keyring
    assert told["subreaper"] == 0


def test_nothing_of_the_services_keyring_is_in_a_pam_session(
    start: Start, alice: pwd.struct_passwd, plain: str
) -> None:
    """Its keyring may be the modules', and is a fresh one where none of them makes one."""
    policy = {"pam_service": plain, "programs": {"ask": [*PYTHON, _with_calls(ASK)]}}
    assert start(policy, _surrounded()).connect().spawn(1, alice.pw_name, "ask").json()["key"] == -1


def test_a_start_names_an_account_and_a_program_and_nothing_else() -> None:
    """So no request sets an environment, an argument, a folder or a path. The command is for the log only."""
    assert wire.Spawn._fields == ("id", "user", "name", "program", "command")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that is only root's, up to ``/``."""
    with tempfile.TemporaryDirectory(dir="/opt") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def _owned_by_the_user(program: Path, account: pwd.struct_passwd) -> None:
    os.chown(program, account.pw_uid, -1)


def _in_the_users_folder(program: Path, account: pwd.struct_passwd) -> None:
    os.chown(program.parent, account.pw_uid, -1)


def _in_a_folder_that_a_group_can_write_to(program: Path, account: pwd.struct_passwd) -> None:
    program.parent.chmod(0o775)


def _writable_by_a_group(program: Path, account: pwd.struct_passwd) -> None:
    program.chmod(0o775)


def _by_a_link_in_the_users_folder(program: Path, account: pwd.struct_passwd) -> None:
    (program.parent / "own").mkdir()
    os.chown(program.parent / "own", account.pw_uid, -1)
    program.rename(program.parent / "real")
    (program.parent / "own/link").symlink_to(program.parent / "real")
    program.symlink_to(program.parent / "own/link")


@pytest.mark.parametrize(
    "change",
    [
        _owned_by_the_user,
        _in_the_users_folder,
        _in_a_folder_that_a_group_can_write_to,
        _writable_by_a_group,
        _by_a_link_in_the_users_folder,
    ],
)
def test_a_program_that_others_can_change_is_not_run(
    start: Start, alice: pwd.struct_passwd, folder: Path, change: Any
) -> None:
    """Looked at again before each start."""
    program = folder / "bin" / "program"
    program.parent.mkdir(0o755)
    program.write_text("#!/bin/sh\necho ran\n")
    program.chmod(0o755)
    broker = start({"programs": {"program": [str(program)]}}).connect()
    change(program, alice)
    output = broker.spawn(1, alice.pw_name, "program")
    assert broker.receive(wire.Refused).stage == "program"
    assert output.rest() == ""


def test_an_argument_that_others_can_change_is_not_run(start: Start, alice: pwd.struct_passwd, folder: Path) -> None:
    script = folder / "script"
    script.write_text("echo ran\n")
    broker = start({"programs": {"program": ["/bin/sh", str(script)]}}).connect()
    script.chmod(0o666)
    output = broker.spawn(1, alice.pw_name, "program")
    assert broker.receive(wire.Refused).stage == "program"
    assert output.rest() == ""


@pytest.mark.parametrize("no_new_privs", [True, False])
def test_setuid_programs_work_where_the_policy_lets_them(
    start: Start, alice: pwd.struct_passwd, mode: dict[str, str], folder: Path, no_new_privs: bool
) -> None:
    shutil.copy("/usr/bin/id", folder / "id")
    (folder / "id").chmod(0o4755)
    programs = {"whoami": ["/bin/sh", "-c", f"exec {folder}/id -u"]}
    broker = start({"no_new_privs": no_new_privs, "programs": programs} | mode).connect()
    assert broker.spawn(1, alice.pw_name, "whoami").line() == f"{alice.pw_uid if no_new_privs else 0}\n"


def test_a_home_that_only_root_could_enter_is_not_entered(
    start: Start, alice: pwd.struct_passwd, mode: dict[str, str]
) -> None:
    """The folder is changed as the user, after root has been given away."""
    home = Path(alice.pw_dir)
    os.chown(home, 0, 0)
    home.chmod(0o700)
    try:
        assert start(mode, _surrounded()).connect().spawn(1, alice.pw_name).json()["cwd"] == "/"
    finally:
        os.chown(home, alice.pw_uid, alice.pw_gid)


def test_the_spawner_has_one_thread(start: Start, alice: pwd.struct_passwd) -> None:
    spawner = start({"start_rate_per_user": 10})
    broker = spawner.connect()
    for number in range(5):
        broker.spawn(number, alice.pw_name, "fail")
        broker.receive(wire.Spawned)
        broker.receive(wire.Exited)
        assert os.listdir(f"/proc/{spawner.process.pid}/task") == [str(spawner.process.pid)]
