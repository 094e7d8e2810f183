"""``measure.py PYTEST'S ARGUMENTS``: run tests, and show what they reach of root's code, in all of its processes.

Exits as pytest does, or with 2 where a line or a branch was missed. What is measured and what is excused stands in
pyproject.toml. Coverage measures the tests' own process. While they run, a file in the site-packages of the running
interpreter makes each process execute `measured` that has the variable TWINLOCK_MEASURED in its environment.
"""

import marshal
import os
import signal
import sys
import sysconfig
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import coverage
import pytest
from measured import Pairs

ROOT = Path(__file__).parents[2]
SOURCES = ("spawner/twinlock_spawner", "shared/twinlock_wire")
INSTALLED = tuple(f"/site-packages/{Path(source).name}/" for source in SOURCES)


def main(arguments: list[str]) -> int:
    """The exit code, see above."""
    os.chdir(ROOT)  # the names in pyproject.toml and in the table are relative to it
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="twl-measured-", dir="/var/tmp") as name:
        folder = Path(name)
        folder.chmod(0o1777)  # processes of several users write into it
        tests = coverage.Coverage(data_file=folder / "data", data_suffix="tests", config_file="pyproject.toml")
        with loaded(folder, INSTALLED) as environment, tests.collect():
            os.environ.update(environment)
            status = pytest.main(arguments)
        tests.save()
        complete = _all_reached(folder)
    return status or (0 if complete else 2)


@contextmanager
def loaded(folder: Path, code: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """Have each process with the returned environment measure `code`, see `measured`, and write into the folder.

    By a .pth file, whose lines are executed if they begin with an import: the only way into ``python -I``.
    """
    source = Path(__file__).with_name("measured.py")
    text = f"{source.read_text()}\nbegin({str(folder)!r}, {code!r})\n"
    compiled = folder / "measured"  # once, and where users can read it
    compiled.write_bytes(marshal.dumps(compile(text, source, "exec")))
    compiled.chmod(0o644)
    start = Path(sysconfig.get_paths()["purelib"], f"twl-{folder.name}.pth")
    wanted = f"os.environ.get('TWINLOCK_MEASURED') == {str(folder)!r}"
    execute = f"exec(marshal.loads(open({str(compiled)!r}, 'rb').read()), {{}})"
    start.write_text(f"import os, marshal; {wanted} and {execute}\n")
    try:
        yield os.environ | {"TWINLOCK_MEASURED": str(folder)}
    finally:
        start.unlink()


def _all_reached(folder: Path) -> bool:
    """Print the table; whether it shows as much as it has to."""
    started = coverage.CoverageData(folder / "data.started")
    started.add_arcs(reached(folder))
    started.write()
    measured = coverage.Coverage(data_file=folder / "data", config_file="pyproject.toml")
    measured.combine([str(folder)])
    for source in SOURCES:  # a file that was never loaded is missed, not left out
        measured.get_data().touch_files([str(path) for path in (ROOT / source).glob("*.py")])
    return measured.report() >= float(str(measured.get_option("report:fail_under")))


def reached(folder: Path) -> dict[str, Pairs]:
    """What all of the processes have written into the folder."""
    found: defaultdict[str, Pairs] = defaultdict(set)
    for path in folder.glob("*.reached"):
        for name, pairs in marshal.loads(path.read_bytes()).items():
            found[name] |= pairs
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
