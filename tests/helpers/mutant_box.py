"""Where mutants are run: each has a copy of root's code, and accounts, mounts and processes of its own."""

import compileall
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from mutant_table import PACKAGES, ROOT, Mutant
from spawner_rig import NOTHING_STARTS
from twinlock_testbed.cgroup import remove_cgroup

_APART = ROOT / "tests/mutants/apart"
_LOAD = "import twinlock_spawner.__main__, twinlock_spawner.doubts"
_WAITS = 4
"""A test that waits in vain does so for this part of the limit, so that it is the test that fails, and says at what."""

_TEARDOWN_LIMIT = 10.0
"""Seconds for tests that are called off to remove what they made."""


class Outcome(Enum):
    """What became of a mutant."""

    CAUGHT = "caught"
    TIMED_OUT = "timed out"
    """The tests took far longer than without the edit: that is noticed as well."""
    SURVIVED = "SURVIVED"
    BROKEN = "BROKEN"
    """Nothing is shown: the code can't be loaded, no spawner starts, or it wasn't a test that failed."""


@dataclass(frozen=True)
class Result:
    """What became of a run of tests."""

    outcome: Outcome
    why: str
    """A line for people."""
    seconds: float
    """How long the tests took."""
    durations: Mapping[str, float]
    """Seconds by test, of those that ran."""


class Boxes:
    """Root's code as it is, which each box gets a copy of."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._code = folder / "code"
        self._running: set[subprocess.Popen[str]] = set()
        for package in PACKAGES:
            source = ROOT / package
            shutil.copytree(source, self._code / source.name, ignore=shutil.ignore_patterns("__pycache__"))
        compileall.compile_dir(self._code, quiet=1)  # or else each box would do that

    def run(self, mutant: Mutant | None, tests: Sequence[str], limit: float) -> Result:
        """Run the tests, with the mutant or the code as it is, until one fails, or for `limit` seconds."""
        began = time.monotonic()
        with tempfile.TemporaryDirectory(dir=self._folder) as name:
            box = Path(name)
            box.chmod(0o755)
            (box / "scratch").mkdir()
            shutil.copytree(self._code, box / "code")
            if mutant is not None:
                _edit(box / "code", mutant)
            error = _load(box / "code")
            if error:
                return Result(Outcome.BROKEN, error, time.monotonic() - began, {})
            said = self._run_apart(box, tests, limit)
        outcome, why = _judge(*said) if said else (Outcome.TIMED_OUT, f"after {limit:.0f} s")
        return Result(outcome, why, time.monotonic() - began, _durations(said[1]) if said else {})

    def call_off(self) -> None:
        """Have all tests that run now end soon, and remove what they made."""
        for process in list(self._running):
            _call_off(process)

    def _run_apart(self, box: Path, tests: Sequence[str], limit: float) -> tuple[int, str] | None:
        """The exit code of pytest and what it says, or None where it takes longer than the limit."""
        process = _start_apart(box, tests, limit / _WAITS)
        self._running.add(process)
        try:
            said, _ = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            return None
        else:
            return process.returncode, said
        finally:
            _end(process)
            self._running.remove(process)
            remove_cgroup(Path(f"/tests/spawner{process.pid}"))  # what a mutant has left; see the fixture


@contextlib.contextmanager
def boxes() -> Iterator[Boxes]:
    """They are below /var/tmp, where each user may read and no policy objects."""
    with tempfile.TemporaryDirectory(prefix="twl-", dir="/var/tmp") as name:
        Path(name).chmod(0o755)
        yield Boxes(Path(name))


def _edit(code: Path, mutant: Mutant) -> None:
    source = Path(mutant.file)
    package = code / source.parent.name
    (package / source.name).write_text(mutant.edited())
    for compiled in (package / "__pycache__").glob(f"{source.stem}.*"):
        compiled.unlink()


def _load(code: Path) -> str:
    """Load all of it; the last line of what is said against it, or nothing."""
    environment = os.environ | {"PYTHONPATH": str(code)}
    argv = [sys.executable, "-c", _LOAD]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60, check=False)
    return done.stderr.strip().rpartition("\n")[2] if done.returncode else ""


def _start_apart(box: Path, tests: Sequence[str], patience: float) -> "subprocess.Popen[str]":
    pytest = [sys.executable, "-m", "pytest", "-x", "--tb=no", "-p", "no:cacheprovider"]
    durations = ["--durations=0", "--durations-min=0.01"]
    folder = f"--basetemp={box / 'scratch/p'}"  # short, for the paths of sockets
    return subprocess.Popen(
        [_APART, sysconfig.get_paths()["purelib"], box / "code", box / "scratch", *pytest, *durations, folder, *tests],
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "300", "TWINLOCK_PATIENCE": str(patience)},  # pytest cuts off what is longer
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # a mutant may signal its own process group
    )


def _call_off(process: "subprocess.Popen[str]") -> None:
    """Tell the script's other half, the first process inside."""
    with contextlib.suppress(OSError, ValueError):  # it has ended
        inside = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())
        os.kill(inside, signal.SIGTERM)


def _end(process: "subprocess.Popen[str]") -> None:
    """Call it off unless it has ended, when its pid may be another's; and kill what is left in the end."""
    if process.poll() is None:
        _call_off(process)
    try:
        process.wait(_TEARDOWN_LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _judge(status: int, said: str) -> tuple[Outcome, str]:
    lines = said.strip().splitlines()
    failed = [line for line in lines if line.startswith("FAILED ")]
    if status == 0 and not any(line.startswith("SKIPPED ") for line in lines):
        return Outcome.SURVIVED, lines[-1].strip(" =")
    if status == 1 and failed and NOTHING_STARTS not in failed[0]:
        return Outcome.CAUGHT, failed[0].removeprefix("FAILED ")
    errors = [line for line in lines if line.startswith(("FAILED ", "ERROR ", "SKIPPED "))]
    return Outcome.BROKEN, (errors or lines or ["nothing was said"])[-1]


def _durations(said: str) -> Mapping[str, float]:
    durations = defaultdict[str, float](float)
    for seconds, test in re.findall(r"^(\d+\.\d+)s (?:setup|call|teardown) +(\S.*)$", said, re.MULTILINE):
        durations[test] += float(seconds)
    return durations
