"""The code that workers need of this package, brought to where they run.

A site's worker_init chooses the Python of the workers. That has Parsl and globus-compute-sdk, since the peer's agent
needs those; it need not have Twinlock. Nodes of a cluster see the user's home; elsewhere the code
comes with the command.
"""

import base64
import io
import shlex
import tarfile
from pathlib import Path

import twinlock_endpoint
from twinlock_endpoint.engines.any_folder import quoted

_NAME = twinlock_endpoint.__name__
_FILES = ("__init__.py", "foreign_code.py", "messages.py", "pythons.py", "texts.py", "variables.py", "worker.py")
_WITHOUT_HOME = ("AWSProvider", "AzureProvider", "CondorProvider", "GoogleCloudProvider", "KubernetesProvider")


def with_code(command: str, folder: Path, provider: str) -> str:
    """The workers' launch command, changed so that they find the code; `folder` is the endpoint's."""
    if provider in _WITHOUT_HOME:
        return _carrying(command)
    path = quoted(str(_copy(folder / "worker_code")))
    return f"env PYTHONPATH={literal(path)}{literal('${PYTHONPATH:+:$PYTHONPATH}')} {command}"


def _copy(path: Path) -> Path:
    package = path / _NAME
    package.mkdir(parents=True, exist_ok=True)
    for name, code in _code().items():
        copy = package / name
        if not copy.exists() or copy.read_bytes() != code:  # workers of a predecessor's job may be reading it
            copy.write_bytes(code)
    return path


def _carrying(command: str) -> str:
    "With the code itself, some kB, which the shell on the other host unpacks."
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


def literal(text: str) -> str:
    """Text of our own for a launch command, which Parsl formats twice; it has to come out of that as it went in."""
    return text.replace("{", "{{{{").replace("}", "}}}}")
