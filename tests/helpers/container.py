"""A Debian of its own with systemd as PID 1: a container by systemd-nspawn, over a tree that stays as it is.

Its network is a loopback of its own, so that its ports are nobody else's; programs of the host join that by `joined`.
It needs root, and a tree that `packaging/debian-tree` made.
"""

import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from spawner_rig import remove_cgroups

# cgroup v2 is what systemd and the spawner want, wherever this machine has it; all of this ends with the namespace.
# As on a host, there is no system call filter around everything.
_BOOT = """
umount -R /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir /sys/fs/cgroup/$1
echo $$ > /sys/fs/cgroup/$1/cgroup.procs
mount -t overlay overlay -o "lowerdir=$2,upperdir=$3/upper,workdir=$3/work" "$3/root"
export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 SYSTEMD_SECCOMP=0
exec systemd-nspawn --quiet --boot --private-network --directory "$3/root" --machine $1 --register=no --keep-unit \\
    --console=read-only
"""
# Should the tests be killed, the kernel ends systemd-nspawn, which does the same for its container.
_MOUNTING = ["setpriv", "--pdeathsig=KILL", "unshare", "--mount", "--propagation=private"]
_POWER_OFF = signal.SIGRTMIN + 4  # systemd(1)
_START_LIMIT, _STOP_LIMIT = 180.0, 60.0
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}


class ContainerError(Exception):
    """The container didn't start, or a command in it failed; the text ends with what was printed."""


@dataclass(frozen=True)
class Container:
    """The container while it runs."""

    leader: int
    """Its PID 1, as the host knows it."""
    root: Path
    """Its file system, as the host sees it."""

    def run(self, *argv: str, timeout: float = 180.0) -> str:
        """The output of a command in it that has to succeed. Raises `ContainerError`."""
        done = self.attempt(*argv, timeout=timeout)
        if done.returncode:
            raise ContainerError(
                f"{' '.join(argv)}: exit {done.returncode}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
            )
        return done.stdout

    def attempt(self, *argv: str, timeout: float = 180.0) -> "subprocess.CompletedProcess[str]":
        """A command in it, however it ends."""
        enter = ["nsenter", f"--target={self.leader}", "--all", "--wd=/"]
        return subprocess.run(
            [*enter, *argv],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=_ENVIRONMENT,
            text=True,
            timeout=timeout,
            check=False,
        )

    def joined(self) -> list[str]:
        """The words before a command of the host that make it use the container's network."""
        return ["nsenter", f"--net=/proc/{self.leader}/ns/net"]

    def processes(self, cgroup: str) -> list[int]:
        """The host's pids of the processes in a unit's cgroup, such as ``system.slice/dbus.service``, and all below."""
        found: list[int] = []
        for place, _, _ in os.walk(self.root / "sys/fs/cgroup" / cgroup):
            with suppress(OSError):  # it has been removed meanwhile
                found += map(int, Path(place, "cgroup.procs").read_text().split())
        return found


@contextmanager
def container(tree: Path, prepare: Callable[[Path], None]) -> Iterator[Container]:
    """A container that has come up; its end leaves nothing. `prepare` gets the folder whose files lie over the tree.

    Raises `ContainerError`.
    """
    # Also the machine's name, which must not have all characters that tempfile would use.
    folder = Path("/var/tmp", f"twl-container-{secrets.token_hex(4)}")
    folder.mkdir(mode=0o755)
    for name in ("upper", "work", "root"):
        (folder / name).mkdir()
    boot: subprocess.Popen[bytes] | None = None
    try:
        prepare(folder / "upper")
        boot = _boot(tree, folder)
        yield _come_up(boot, folder)
    finally:
        if boot is not None:
            _end(boot, folder.name)
            _remove_cgroup(folder.name)
        shutil.rmtree(folder)


def _boot(tree: Path, folder: Path) -> "subprocess.Popen[bytes]":
    with (folder / "console").open("wb") as console:
        return subprocess.Popen(
            [*_MOUNTING, "sh", "-euc", _BOOT, "sh", folder.name, tree, folder],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            env=_ENVIRONMENT,
            start_new_session=True,
        )


def _come_up(boot: "subprocess.Popen[bytes]", folder: Path) -> Container:
    end, state = time.monotonic() + _START_LIMIT, "not there"
    while time.monotonic() < end and boot.poll() is None:
        if leader := _leader(boot, folder.name):
            made = Container(leader, Path(f"/proc/{leader}/root"))
            state = made.attempt("systemctl", "is-system-running").stdout.strip()
            if state in ("running", "degraded"):
                return made
        time.sleep(0.1)
    console = (folder / "console").read_text(errors="replace")
    raise ContainerError(f"the container didn't come up, it is {state}:\n{console[-3000:]}")


def _leader(boot: "subprocess.Popen[bytes]", name: str) -> int:
    """The container's PID 1; 0 as long as there is none. By the namespace of `boot`, which becomes systemd-nspawn."""
    try:
        path = Path(f"/proc/{boot.pid}/root/sys/fs/cgroup/{name}/payload/init.scope/cgroup.procs")
        return int(path.read_text().split()[0])
    except (OSError, IndexError):
        return 0


def _end(boot: "subprocess.Popen[bytes]", name: str) -> None:
    """Power off; kill what doesn't. A container ends with its PID 1."""
    if leader := _leader(boot, name):
        with suppress(ProcessLookupError):  # it has ended meanwhile
            os.kill(leader, _POWER_OFF)
    try:
        boot.wait(_STOP_LIMIT)
    except subprocess.TimeoutExpired:
        for process in [*psutil.Process(boot.pid).children(recursive=True), psutil.Process(boot.pid)]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        boot.wait()


def _remove_cgroup(name: str) -> None:
    for mount in (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified")):
        remove_cgroups(mount / name)
