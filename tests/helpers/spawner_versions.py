"""A spawner's installation that a test can change while the spawner runs."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgpack
import twinlock_spawner
import twinlock_wire
from spawner_rig import Spawner, launch, stop


class Version:
    """A spawner's installation that can be changed: a virtual environment with a copy of its two packages."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._stack, self._code = stack, folder / "code"
        for package in (twinlock_wire, twinlock_spawner):
            source = Path(str(package.__file__)).parent
            shutil.copytree(source, self._code / source.name, ignore=shutil.ignore_patterns("__pycache__"))
        self._python = folder / "venv/bin/python"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", "--symlinks", folder / "venv"], check=True)
        [site] = (folder / "venv/lib").glob("python*/site-packages")
        (site / "ours.pth").write_text(f"{self._code}\n{Path(msgpack.__file__).parent.parent}\n")
        self._fifo = folder / "gate"
        os.mkfifo(self._fifo)

    def start(self, policy: dict[str, Any]) -> Spawner:
        """A spawner of this version."""
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="twl-", dir="/var/tmp")))
        folder.chmod(0o755)
        spawner = launch(folder, policy, python=str(self._python))
        self._stack.callback(stop, spawner)
        return spawner

    def change(self, module: str, change: Callable[[str], str]) -> None:
        """Install a version whose text of `module` is what `change` makes of it."""
        path = self._code / module
        shutil.rmtree(path.parent / "__pycache__", ignore_errors=True)
        path.write_text(change(path.read_text()))

    def gate(self) -> "Gate":
        """While this is open, a version is installed that waits for its end when it begins to run."""
        return Gate(self, self._fifo)


class Gate:
    """See `Version.gate`."""

    def __init__(self, version: Version, fifo: Path) -> None:
        self._version, self._fifo, self._writer = version, fifo, -1

    def __enter__(self) -> Callable[[], None]:
        """What to call to wait until somebody stands before the gate."""
        wait = f"open({str(self._fifo)!r}).read()\n"
        self._version.change("twinlock_spawner/__init__.py", lambda text: text + wait)
        return self._await

    def _await(self) -> None:
        self._writer = os.open(self._fifo, os.O_WRONLY)

    def __exit__(self, *error: object) -> None:
        self._version.change("twinlock_spawner/__init__.py", lambda text: text.rpartition("open(")[0])
        os.close(self._writer)
