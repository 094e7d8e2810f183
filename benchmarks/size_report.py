"""What root runs: its code in tokens and lines, third-party code, the modules loaded and the memory of a real spawner.

Exits with 1 where a bound is exceeded, a module is loaded that isn't allowed, or imports of any part go in a circle.
Code is all of spawner and twinlock_wire, guards and PAM included, without comments and docstrings. The bounds are for
its readers: in tokens, since lines can be saved by writing more on each, and for what stands on a line and in a
function.
The spawner is the installed one of the running interpreter. It serves with a throw-away policy, and starts /bin/true
once, so it has also loaded what it loads late.
"""

import fcntl
import importlib.util
import os
import pwd
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from figures import Table
from imports import PACKAGES, in_circles
from root_code import ROOT, roots_code
from twinlock_wire import wire

MAX_TOKENS = 15_573
MAX_TOKENS_ON_A_LINE = 8.5  # mean
MAX_FUNCTION = 25  # lines with code
MAX_COMPLEXITY = 8
MAX_CTYPES = 2  # files: libpam, and what the kernel has and Python lacks
MAX_MEMORY = 16 * 1024**2  # bytes
ALLOWED = {"msgpack", "prctl", "_prctl", "twinlock_wire", "twinlock_spawner"}
FORBIDDEN = "msgpack._cmsgpack"  # no C parser reads the broker's bytes as root
_ENDPOINT = "00000000-0000-4000-8000-000000000001"


def main() -> int:
    """Measure and print. Return the exit code, see above."""
    table = Table()
    _code(table)
    _circles(table)
    try:
        modules, memory = _observe()
    except (OSError, KeyError, EOFError) as error:
        print(f"modules and memory: not measured, since a spawner can't be started here: {error!r}")
        table.over += [] if os.getuid() else ["a spawner that doesn't start"]
    else:
        _modules(table, modules)
        table.row("memory of an idle spawner (VmRSS)", memory["VmRSS"], "bytes", MAX_MEMORY)
        if "Private_Dirty" in memory:
            table.row("  its own of that", memory["Private_Clean"] + memory["Private_Dirty"], "bytes")
    return table.exit_code()


def _code(table: Table) -> None:
    files = roots_code()
    for path, code in files.items():
        table.row(f"  {path.relative_to(ROOT)}", len(code.tokens), f"tokens on {code.lines} lines")
    tokens = sum(len(code.tokens) for code in files.values())
    lines = sum(code.lines for code in files.values())
    table.row("all that root loads", tokens, "tokens", MAX_TOKENS)
    table.row("  on lines of code", lines, "lines")
    table.row("  mean tokens on a line of code", tokens / lines, "tokens", MAX_TOKENS_ON_A_LINE)
    functions = [(path, function) for path, code in files.items() for function in code.functions()]
    path, longest = max(functions, key=lambda found: found[1].lines)
    table.row("  longest function", longest.lines, f"lines ({path.name}: {longest.name})", MAX_FUNCTION)
    path, hardest = max(functions, key=lambda found: found[1].complexity)
    table.row("  highest complexity", hardest.complexity, f"({path.name}: {hardest.name})", MAX_COMPLEXITY)
    foreign = [path.name for path, code in files.items() if code.imports("ctypes")]
    table.row("  files with ctypes", len(foreign), f"({', '.join(foreign)})", MAX_CTYPES)
    _none(table, "  private names of others", [name for code in files.values() for name in code.private_names()])
    _none(table, "  statements to be read twice", [text for code in files.values() for text in code.read_twice()])


def _circles(table: Table) -> None:
    for folder in PACKAGES:
        _none(table, f"circles of imports in {folder.name}", sorted(in_circles(folder)))


def _none(table: Table, name: str, found: list[str]) -> None:
    table.row(name, len(found), "; ".join(found), 0)


def _modules(table: Table, modules: set[str]) -> None:
    table.row("modules loaded", len([name for name in modules if _origin(name)]), "modules")
    foreign = {name: origin for name in modules if (origin := _origin(name)) and not _standard(origin)}
    for package in sorted({name.partition(".")[0] for name in foreign}):
        files = {Path(origin) for name, origin in foreign.items() if name.partition(".")[0] == package}
        if not package.startswith("twinlock_"):
            lines = sum(file.read_bytes().count(b"\n") for file in files if file.suffix == ".py")
            table.row(f"  third-party: {package}", lines, f"lines in {', '.join(sorted(file.name for file in files))}")
    table.over += [f"module {name}" for name in sorted(foreign) if name.partition(".")[0] not in ALLOWED]
    table.over += [f"module {FORBIDDEN}"] if FORBIDDEN in modules else []


def _origin(name: str) -> str:
    """Return the file of a module, ``built-in`` or ``frozen``; empty if there is none: its import was only tried."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return ""
    return spec.origin or "" if spec else ""


def _standard(origin: str) -> bool:
    paths = sysconfig.get_paths()
    inside = [Path(origin).is_relative_to(paths[key]) for key in ("stdlib", "platstdlib")]
    return origin in ("built-in", "frozen") or (any(inside) and "-packages" not in origin)


def _observe() -> tuple[set[str], dict[str, int]]:
    """Return the modules that a spawner loads, and its memory when it has started one endpoint and is idle."""
    with tempfile.TemporaryDirectory(prefix="twl-size-") as name:
        folder = Path(name)
        policy = _policy(folder)
        memory = _serve_once(folder, [sys.executable, "-I", "-m", "twinlock_spawner", "--policy", policy])
        (folder / "socket").unlink()
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(f"{folder}/socket")
            listener.listen(1)
            listener.set_inheritable(True)
            _serve_once(folder, _second_stage(policy, listener.fileno()))
        said = (folder / "said").read_text().splitlines()
    imported = {line.rpartition("|")[2].strip() for line in said if line.startswith("import time:")}
    return imported - {"imported package"}, memory


def _policy(folder: Path) -> str:
    own = pwd.getpwuid(os.getuid()).pw_name
    (folder / "policy.toml").write_text(
        f'broker_user = "{own}"\nsocket = "{folder}/socket"\naudit_log = "{folder}/audit.log"\n'
        'system_uids = []\ndeny_users = []\n[programs]\ntrue = ["/bin/true"]\n'
    )
    return f"{folder}/policy.toml"


def _second_stage(policy: str, listener: int) -> list[str]:
    """Return the command of the process that serves, which the first one executes; here it tells what it imports."""
    state = os.memfd_create("state", 0)
    check = [sys.executable, "-I", "-m", "twinlock_spawner", "--policy", policy, "--check", str(state)]
    subprocess.run(check, pass_fds=[state], check=True, timeout=30)
    os.write(state, b"\xc0")  # nil: there is no earlier self
    code = f"import sys; sys.path = {sys.path[1:]}; from twinlock_spawner.__main__ import main; main()"
    serve = [sys.executable, "-IS", "-X", "importtime", "-c", code, str(state)]
    return [sys.executable, "-c", f"import os; os.dup2({listener}, 3); os.execv({serve[0]!r}, {serve})"]


def _serve_once(folder: Path, argv: list[str]) -> dict[str, int]:
    """Have a spawner start one endpoint, and return its memory. What it prints is in the file ``said``."""
    with (folder / "said").open("wb") as said, subprocess.Popen(argv, stderr=said, close_fds=False) as process:
        try:
            broker = _connect(folder, process)
            for _ in wire.VERSIONS:
                broker.recv(wire.MAX_DATAGRAM)  # Hello: it serves
            _start_one(broker)
            memory = _memory(process.pid)
        finally:
            process.terminate()
    return memory


def _memory(pid: int) -> dict[str, int]:
    """Return bytes by their name in status and, for root, smaps_rollup: proc(5)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    with suppress(PermissionError):
        lines += Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    sizes = [line.split() for line in lines if line.endswith(" kB")]
    return {name.rstrip(":"): int(size) * 1024 for name, size, _ in sizes}


def _connect(folder: Path, process: "subprocess.Popen[bytes]") -> socket.socket:
    broker = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    broker.settimeout(10)
    while process.poll() is None:
        try:
            broker.connect(f"{folder}/socket")
        except (FileNotFoundError, ConnectionRefusedError):
            time.sleep(0.01)
        else:
            return broker
    lines = (folder / "said").read_text().splitlines()
    raise EOFError([line for line in lines if not line.startswith("import time:")])


def _start_one(broker: socket.socket) -> None:
    """Have the spawner start /bin/true, and wait for its end."""
    user = pwd.getpwuid(os.getuid() or pwd.getpwnam("daemon").pw_uid).pw_name
    request = wire.Spawn(_ENDPOINT, user, f"uep.{_ENDPOINT}.{_ENDPOINT}", "true")
    document = os.memfd_create("document", os.MFD_ALLOW_SEALING)
    fcntl.fcntl(document, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
    reader, output = os.pipe()
    socket.send_fds(broker, [wire.encode(request)], [document, output])
    for file in (document, reader, output):
        os.close(file)
    for kind in (wire.Spawned, wire.Exited):
        answer = wire.decode(broker.recv(wire.MAX_DATAGRAM), wire.REPLIES)
        if not isinstance(answer, kind):
            raise OSError(answer)


if __name__ == "__main__":
    sys.exit(main())
