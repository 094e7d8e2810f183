"""The code that workers need of this package, brought to where they run.

A site's worker_init chooses the Python of the workers. That has Parsl and globus-compute-sdk, since the agent
needs those; it need not have Twinlock. Nodes of a cluster see the user's home; elsewhere the code comes with the
command.
"""

import base64
import io
import shlex
import tarfile
from pathlib import Path

import twinlock_endpoint
from twinlock_endpoint.htex.any_folder import literal, quoted

_NAME = twinlock_endpoint.__name__
_WORKER = ("__init__", "environment", "execute", "foreign_code", "messages", "python_versions", "texts")
_NODE = ("__init__", "pool", "pool_line", "time_limit")
_FILES = (
    "__init__.py",
    *(f"worker/{name}.py" for name in _WORKER),
    "htex/__init__.py",
    *(f"htex/node/{name}.py" for name in _NODE),
)
_WITHOUT_HOME = ("AWSProvider", "AzureProvider", "CondorProvider", "GoogleCloudProvider", "KubernetesProvider")

_BASH = ("SimpleLauncher", "SingleNodeLauncher", "SrunLauncher")  # the others may run the command with sh
_POOL = "process_worker_pool.py "  # how Parsl's launch command begins
# With the Python that the pool's program names in its first line. Where that is another interpreter, or the node
# doesn't see the code, the program runs as it is.
_START_POOL = """\
code=$1
shift
program=$(command -v "$0") && IFS= read -r first < "$program"
case $first in
"#!"*python*) test -r "$code" && exec ${first#??} "$code" "$program" "$@" ;;
esac
exec "$0" "$@"
"""


def with_code(command: str, folder: Path, provider: str, launcher: str) -> str:
    """Return the workers' launch command, changed so that they find the code; `folder` is the endpoint's."""
    if provider in _WITHOUT_HOME:
        return _carrying(command)
    copy = _copy(folder / "worker_code")
    if command.startswith(_POOL) and launcher in _BASH:
        code = quoted(str(copy / _NAME / "htex" / "node" / "pool.py"))
        command = f"sh -c {literal(quoted(_START_POOL))} {_POOL}{literal(code)} {command.removeprefix(_POOL)}"
    path = quoted(str(copy))
    return f"env PYTHONPATH={literal(path)}{literal('${PYTHONPATH:+:$PYTHONPATH}')} {command}"


def _copy(path: Path) -> Path:
    for name, code in _code().items():
        copy = path / _NAME / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if not copy.exists() or copy.read_bytes() != code:  # workers of a predecessor's job may be reading it
            copy.write_bytes(code)
    return path


def _carrying(command: str) -> str:
    """Return the command with the code itself in it, some kB, which the shell on the other host unpacks."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, code in _code().items():
            about = tarfile.TarInfo(f"{_NAME}/{name}")
            about.size = len(code)
            archive.addfile(about, io.BytesIO(code))
    text = base64.b64encode(packed.getvalue()).decode()
    unpack = f'd=$(mktemp -d) && echo {text} | base64 -d | tar -xzf - -C "$d"'
    script = f'{unpack} && PYTHONPATH="$d${{PYTHONPATH:+:$PYTHONPATH}}" exec "$@"'
    return f"sh -c {literal(shlex.quote(script))} sh {command}"


def _code() -> dict[str, bytes]:
    return {name: (Path(twinlock_endpoint.__path__[0]) / name).read_bytes() for name in _FILES}
