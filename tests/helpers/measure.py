"""``measure.py FOLDER PYTEST'S ARGUMENTS``: run tests, and note what they reach of root's code, in all its processes.

Exits as pytest does. `reached` shows what several such runs have left in the folder. What is measured and what is
excused stands in pyproject.toml. Coverage measures the tests' own process. While they run, a file in the site-packages
of the running interpreter makes each process execute `measured` that has the variable TWINLOCK_MEASURED in its
environment.
"""

import marshal
import os
import signal
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import coverage
import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ("spawner/twinlock_spawner", "shared/twinlock_wire")
INSTALLED = tuple(f"/site-packages/{Path(source).name}/" for source in SOURCES)


def main(folder: str, arguments: list[str]) -> int:
    """Return pytest's exit code."""
    os.chdir(ROOT)  # the names in pyproject.toml are relative to it
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    own = Path(tempfile.mkdtemp(dir=folder))
    own.chmod(0o1777)  # processes of several users write into it
    tests = coverage.Coverage(data_file=own / "data", data_suffix="tests", config_file="pyproject.toml")
    with loaded(own, INSTALLED) as environment, tests.collect():
        os.environ.update(environment)
        status = pytest.main(arguments)
    tests.save()
    return status


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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
