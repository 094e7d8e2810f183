"""What an endpoint has of a login: the kernel's login uid and a session keyring, both its user's."""

import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest
from proc_rig import PATIENCE, until
from process_trees import owner, program
from spawner_rig import PYTHON, Start, write_policy
from twinlock_wire import wire

pytestmark = pytest.mark.system

LOGIN_UID = Path("/proc/self/loginuid")
HAS_AUDIT = LOGIN_UID.exists()  # a kernel without it has no login uids, and nothing is refused there
UNSET = 2**32 - 1

# It belongs to a login of uid 4711, and may not leave it: the kernel asks for CAP_AUDIT_CONTROL.
LOGIN = """
import os, sys
if os.path.exists("/proc/self/loginuid"):
    open("/proc/self/loginuid", "w").write("4711")
os.execvp("setpriv", ["setpriv", "--bounding-set=-audit_control", "--inh-caps=-audit_control", *sys.argv[1:]])
"""
IN_A_LOGIN = (sys.executable, "-c", LOGIN)

# It prints the owner and the permissions of its session keyring: KEYCTL_DESCRIBE, keyctl(2).
KEYRING = """
import ctypes, os
text = ctypes.create_string_buffer(500)
call = {"x86_64": 250, "aarch64": 219, "ppc64le": 271}[os.uname().machine]
assert ctypes.CDLL(None).syscall(call, 6, -3, text, 500) > 0
kind, uid, gid, _, name = text.value.decode().split(";")
print(kind, uid, gid, name, flush=True)
"""


def _login_uid(pid: int) -> int:
    return int(Path(f"/proc/{pid}/loginuid").read_text()) if HAS_AUDIT else UNSET


def _not_started(folder: Path, prefix: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """A spawner that doesn't get as far as to serve."""
    paths = {"socket": str(folder / "s.sock"), "audit_log": str(folder / "a.log")}
    write_policy(folder, {"broker_user": "root"} | paths)
    argv = [*prefix, sys.executable, "-m", "twinlock_spawner", "--policy", str(folder / "policy.toml")]
    return subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE, check=False)


@pytest.mark.parametrize("wanted", [True, False])
def test_an_endpoint_has_its_users_login_uid(
    start: Start, alice: pwd.struct_passwd, mode: dict[str, str], wanted: bool
) -> None:
    """The spawner's own stays as it was, and so does its keeper's or guard's."""
    spawner = start({"login_uid": wanted} | mode)
    own = _login_uid(spawner.process.pid)
    broker = spawner.connect()
    broker.spawn(1, alice.pw_name, "sleep").line()
    endpoint = program(broker.receive(wire.Spawned).pid)
    assert owner(endpoint) == alice.pw_uid
    assert _login_uid(endpoint) == (alice.pw_uid if wanted and HAS_AUDIT else own)
    assert _login_uid(spawner.process.pid) == own


@pytest.mark.parametrize("uid", [4711, 4712])
def test_a_login_uid_that_is_right_already_is_left_alone(uid: int) -> None:
    """As where PAM's pam_loginuid has set it; the kernel would refuse even the same one a second time."""
    code = f"from twinlock_spawner import kernel; kernel.set_login_uid({uid})"
    ended = subprocess.run([*IN_A_LOGIN, sys.executable, "-c", code], capture_output=True, timeout=120, check=False)
    assert (b"PermissionError" in ended.stderr) == (HAS_AUDIT and uid != 4711)


def test_a_spawner_in_a_login_session_says_so_at_once(tmp_path: Path, start: Start, alice: pwd.struct_passwd) -> None:
    """With a kernel that has no login uids there is nothing to refuse."""
    if HAS_AUDIT:
        ended = _not_started(tmp_path, IN_A_LOGIN)
        assert ended.returncode == os.EX_CONFIG
        assert "login_uid = false" in ended.stderr
        assert "systemd-run" in ended.stderr
        assert not (tmp_path / "s.sock").exists()
    spawner = start({"login_uid": not HAS_AUDIT}, IN_A_LOGIN)
    spawner.connect().spawn(1, alice.pw_name, "sleep").line()


def test_a_policy_that_cannot_be_kept_is_not_taken_over(start: Start, alice: pwd.struct_passwd) -> None:
    """What is refused at the start is refused at SIGHUP; a person's `--check` in a login session says nothing of it."""
    spawner = start({"login_uid": False}, IN_A_LOGIN)
    policy = spawner.folder / "policy.toml"
    policy.write_text(policy.read_text().replace("login_uid = false", "login_uid = true"))
    argv = [*IN_A_LOGIN, sys.executable, "-m", "twinlock_spawner", "--policy", str(policy), "--check"]
    subprocess.run(argv, check=True, timeout=120)
    said = spawner.said.count()
    spawner.process.send_signal(1)
    line = spawner.said.wait_for("login_uid" if HAS_AUDIT else "started", after=said)
    assert ("reload-failed" in line) == HAS_AUDIT
    spawner.connect().spawn(1, alice.pw_name, "sleep").line()


def test_a_session_keyring_is_the_users_own(start: Start, alice: pwd.struct_passwd, mode: dict[str, str]) -> None:
    """One that root had made would be root's for good, and count for root's quota."""
    broker = start({"programs": {"keyring": [*PYTHON, KEYRING]}} | mode).connect()
    assert broker.spawn(1, alice.pw_name, "keyring").line() == f"keyring {alice.pw_uid} {alice.pw_gid} _ses\n"


# It has a session keyring, as under systemd; the first one of a process is given without regard to quotas.
WITH_KEYRING = (
    sys.executable,
    "-c",
    """
import os, sys
from twinlock_spawner import kernel
kernel.join_new_session_keyring()
os.execvp(sys.argv[1], sys.argv[1:])
""",
)

# It takes all keys that its account may have, and keeps them until its stdin ends.
HOARD = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
add_key, keyctl = {"x86_64": (248, 250), "aarch64": (217, 219), "ppc64le": (269, 271)}[os.uname().machine]
libc.syscall(keyctl, 1, None)
number = 0
while libc.syscall(add_key, b"user", b"%d" % number, b"x", 1, -3) > 0:
    number += 1
print(number, flush=True)
sys.stdin.read()
"""


def _keys(uid: int) -> int:
    """How many keys an account has by the kernel's count: proc_key-users(5)."""
    lines = Path("/proc/key-users").read_text().splitlines()
    return next((int(line.split()[3].partition("/")[0]) for line in lines if line.split()[0] == f"{uid}:"), 0)


def test_a_user_without_room_for_a_keyring_is_told(start: Start, alice: pwd.struct_passwd) -> None:
    """Only that user is; the keys are the account's own."""
    broker = start(prefix=WITH_KEYRING).connect()
    argv = ["setpriv", f"--reuid={alice.pw_uid}", f"--regid={alice.pw_gid}", "--clear-groups", *PYTHON, HOARD]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as hoarder:
        assert hoarder.stdout is not None
        hoarded = int(hoarder.stdout.readline())
        assert hoarded > 0
        broker.spawn(1, alice.pw_name, "sleep")
        refused = broker.receive(wire.Refused)
        assert hoarder.stdin is not None
        hoarder.stdin.close()
    assert refused.stage == "keyring"
    assert refused.reason.endswith("Disk quota exceeded")
    assert until(lambda: _keys(alice.pw_uid) < hoarded)  # the kernel takes its time; later tests need the account
