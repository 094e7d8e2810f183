"""A real spawner, and a broker's end of its socket."""

import array
import contextlib
import fcntl
import io
import json
import os
import pwd
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from proc_rig import PATIENCE, until
from twinlock_testbed.manager import toml
from twinlock_wire import wire

# A spawner started behind these words is as it is at a site: nothing measures its coverage, see `measure`.
UNMEASURED = ("env", "--unset=TWINLOCK_MEASURED")
MANAGER = "11111111-2222-4333-8444-555555555555"
_Reply = TypeVar("_Reply", bound=wire.Reply)


def uep(number: int) -> str:
    """The uuid of the test's user endpoint `number`."""
    return f"00000000-0000-4000-8000-{number:012}"


def sealed(data: bytes = b"") -> int:
    """A file descriptor for an endpoint's stdin: nobody can change what is in it."""
    memory = os.memfd_create("stdin", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(memory, data)
    fcntl.fcntl(memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
    os.lseek(memory, 0, os.SEEK_SET)
    return memory


@contextlib.contextmanager
def acting_as(account: pwd.struct_passwd) -> Iterator[None]:
    """Be that user for a while: SO_PEERCRED shows the effective uid, and SCM_CREDENTIALS the real one (unix(7))."""
    gid = os.getegid()
    os.setresgid(account.pw_gid, account.pw_gid, gid)
    os.setresuid(account.pw_uid, account.pw_uid, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)
        os.setresgid(gid, gid, gid)


class Broker:
    """The broker's end. Replies are awaited for `PATIENCE` at most."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(PATIENCE)
        self.outputs: list[Output] = []
        """Those of the children that it started."""
        self._account = pwd.getpwuid(os.geteuid())  # who has connected is who speaks
        try:
            self.socket.connect(str(path))
        except OSError:
            self.socket.close()
            raise

    def close(self) -> None:
        """Go away."""
        self.socket.close()

    def receive(self, kind: type[_Reply]) -> _Reply:
        """The next reply, which has to be of this kind."""
        reply = wire.decode(self.socket.recv(wire.MAX_DATAGRAM + 1), wire.REPLIES)
        assert isinstance(reply, kind), reply
        return reply

    def hear_hello(self) -> None:
        """Receive what the spawner says first."""
        for version in wire.VERSIONS:
            assert self.receive(wire.Hello) == wire.Hello(version)

    def send(self, request: wire.Request, fds: list[int] | None = None) -> None:
        """Send a request."""
        self.send_bytes(wire.encode(request), fds or [])

    def send_bytes(self, data: bytes, fds: list[int]) -> None:
        """Send any datagram."""
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        acting = contextlib.nullcontext() if os.geteuid() == self._account.pw_uid else acting_as(self._account)
        with acting:
            self.socket.sendmsg([data], rights)

    def hung_up(self) -> bool:
        """Whether the spawner closes the connection."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionError:
            return True

    def spawn(self, number: int, user: str, program: str = "report", stdin: bytes = b"") -> "Output":
        """Ask for a child; what it prints can be read from the value."""
        document = sealed(stdin)
        reader, writer = os.pipe()
        request = wire.Spawn(uep(number), user, f"uep.{MANAGER}.{uep(number)}", program)
        self.send(request, [document, writer])
        os.close(document)
        os.close(writer)
        self.outputs.append(Output(reader))
        return self.outputs[-1]

    def children(self) -> dict[str, wire.Child]:
        """The table, all of its pages."""
        self.send(wire.List())
        rows: list[wire.Child] = []
        while True:
            page = wire.decode(self.socket.recv(wire.MAX_DATAGRAM + 1), wire.REPLIES)
            if isinstance(page, wire.Spawned | wire.Exited | wire.Refused):  # told meanwhile of an earlier start
                continue
            assert isinstance(page, wire.Children), page
            rows += page.children
            if len(page.children) < wire.MAX_PAGE:
                return {row.id: row for row in rows}


class Output:
    """The read end of a child's output; it stays open until `stop` if nobody closes it before."""

    def __init__(self, fd: int) -> None:
        self._file = io.FileIO(fd)

    def close(self) -> None:
        """Listen no more."""
        self._file.close()

    def line(self) -> str:
        """The next line, awaited for `PATIENCE` at most."""
        data = b""
        while not data.endswith(b"\n"):
            ready, _, _ = select.select([self._file], [], [], PATIENCE)
            assert ready, f"no line came, only {data!r}"
            byte = self._file.read(1)
            assert byte, f"the output ended with {data!r}"
            data += byte
        return data.decode()

    def json(self) -> Any:
        """The next line's value."""
        return json.loads(self.line())

    def rest(self) -> str:
        """All until the end, when nobody has the output open any more; awaited for `PATIENCE` at most."""
        data = b""
        while True:
            ready, _, _ = select.select([self._file], [], [], PATIENCE)
            assert ready, f"the output didn't end after {data!r}"
            more = self._file.read(4096)
            if not more:
                return data.decode()
            data += more


# Programs for the policy; each gets the endpoint's name as its last argument.
PYTHON = ["/usr/bin/python3", "-I", "-c"]
REPORT = """
import json, os, sys
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines())
fds = [int(fd) for fd in os.listdir("/proc/self/fd")][:-1]
json.dump({"status": status, "fds": fds, "environment": dict(os.environ), "argv": sys.argv, "stdin": sys.stdin.read(),
           "sid": os.getsid(0), "pid": os.getpid(), "umask": os.umask(0), "cwd": os.getcwd()}, sys.stdout)
print(flush=True)
"""
SLEEP = "import signal; print('up', flush=True); signal.pause()"
STUBBORN = "import signal; signal.signal(15, signal.SIG_IGN); print('up', flush=True)\nwhile True: signal.pause()"
# Says a word at each SIGUSR1; the second is its last one. That it blocks SIGUSR2 shows that it is so far.
LATE = """
import signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGUSR2])
signal.sigwait([signal.SIGUSR1])
print("the first word", flush=True)
signal.sigwait([signal.SIGUSR1])
sys.exit("the last word")
"""
DAEMON = """
import os, signal
reader, writer = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.write(writer, str(os.getpid()).encode())
        signal.pause()
    os._exit(0)
os.wait()
print(os.read(reader, 20).decode(), flush=True)
signal.pause()
"""
NOTHING_STARTS = "no spawner starts"
"""How a test's failure begins where its spawner doesn't come so far as to serve."""

PROGRAMS = {
    "report": [*PYTHON, REPORT],
    "sleep": [*PYTHON, SLEEP],
    "stubborn": [*PYTHON, STUBBORN],
    "late": [*PYTHON, LATE],
    "daemon": [*PYTHON, DAEMON],
    "fail": ["/bin/sh", "-c", "exit 7"],
}


class Lines:
    """What a process writes to stderr, read as it comes, so that it never waits for us."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._ended = False
        threading.Thread(target=self._read, args=(process,), daemon=True).start()

    def wait_for(self, text: str, seconds: float = PATIENCE, after: int = 0) -> str:
        """The first line with `text` in it, not counting the first `after` lines; awaited so long at most."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self._find(text, after), seconds)
            line = self._find(text, after)
        assert line, f"no line with {text}, only {self._lines}"
        return line

    def count(self) -> int:
        """Lines so far."""
        return len(self._lines)

    def last(self, count: int) -> list[str]:
        """So many of the latest lines."""
        return self._lines[-count:]

    def _find(self, text: str, after: int) -> str:
        return next((line for line in self._lines[after:] if text in line), "")

    def _read(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stderr is not None
        with process.stderr as stderr:
            for line in stderr:
                with self._changed:
                    self._lines.append(line.decode())
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()


@dataclass
class Spawner:
    """A running spawner and where to find its things."""

    folder: Path
    """For its policy, its socket and its audit log."""
    process: "subprocess.Popen[bytes]"
    said: Lines
    """What it printed."""
    socket: Path
    """The path of its socket."""
    cgroup: str
    """The path of its cgroup; empty without one."""
    brokers: list[Broker] = field(default_factory=list)
    """The connections that tests have made."""

    def connect(self) -> Broker:
        """A broker that has heard Hello."""
        broker = self.connect_raw()
        broker.hear_hello()
        return broker

    def connect_raw(self) -> Broker:
        """A connection from which nothing has been read."""
        broker = Broker(self.socket)
        self.brokers.append(broker)
        return broker

    def audit(self) -> list[dict[str, Any]]:
        """The audit log so far, but for a line that is just being written."""
        whole, _, _ = (self.folder / "audit.log").read_text().rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]


def gone(pid: int, seconds: float = PATIENCE) -> bool:
    """Whether the process ends within so many seconds; one that is a zombie has ended."""
    return until(lambda: _has_ended(pid), seconds)


def _has_ended(pid: int) -> bool:
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


Start = Callable[..., Spawner]


def launch(
    folder: Path, policy: Mapping[str, Any], prefix: tuple[str, ...] = (), python: str = sys.executable
) -> Spawner:
    """A spawner with its files in `folder`; `prefix` are words before its command, `python` has it installed.

    One that has waited in vain for the keeper of an earlier one is started again, as by a service manager.
    """
    values = {
        "broker_user": pwd.getpwuid(os.getuid()).pw_name,
        "socket": str(folder / "spawner.sock"),
        "audit_log": str(folder / "audit.log"),
        "stop_grace": 1,
        "exec_timeout": 60,
    } | dict(policy)
    write_policy(folder, values)
    argv = [*prefix, python, "-m", "twinlock_spawner", "--policy", str(folder / "policy.toml")]
    process, said = _begin(argv, time.monotonic() + PATIENCE)
    return Spawner(folder, process, said, Path(str(values["socket"])), str(values.get("cgroup", "")))


def _begin(argv: list[str], deadline: float) -> tuple["subprocess.Popen[bytes]", Lines]:
    while True:
        process = subprocess.Popen(argv, stderr=subprocess.PIPE, cwd="/")
        said = Lines(process)
        try:
            said.wait_for('"started"')
        except AssertionError as error:
            if " is locked by " not in str(error):
                raise AssertionError(f"{NOTHING_STARTS}: {error}") from None
            if time.monotonic() > deadline:
                raise
            process.wait(PATIENCE)
        else:
            return process, said


def write_policy(folder: Path, values: Mapping[str, Any]) -> None:
    """The policy file of a spawner in `folder`; its programs are the rig's and those of `values`."""
    programs = PROGRAMS | values.get("programs", {})
    text = "".join(f"{name} = {toml(value)}\n" for name, value in values.items() if name != "programs")
    text += "[programs]\n" + "".join(f"{name} = {json.dumps(argv)}\n" for name, argv in programs.items())
    (folder / "policy.toml").write_text(text)


def stop(spawner: Spawner) -> None:
    """End the spawner and all that it started."""
    for broker in spawner.brokers:
        broker.close()
        for output in broker.outputs:
            output.close()
    spawner.process.send_signal(signal.SIGTERM)
    spawner.process.wait(PATIENCE)
    if spawner.cgroup:
        remove_cgroups(Path(spawner.cgroup))


def remove_cgroups(folder: Path) -> None:
    """Remove a cgroup and those below it, when what is in them has ended."""
    end = time.monotonic() + PATIENCE
    for place, _, _ in os.walk(folder, topdown=False):  # some go meanwhile, by the spawner or its keeper
        while Path(place).exists() and time.monotonic() < end:
            try:
                Path(place).rmdir()
            except OSError:
                time.sleep(0.01)
