"""``measure.py PYTEST'S ARGUMENTS``: run tests, and show what they reach of root's code, in all of its processes.

Exits as pytest does, or with 2 where a line or a branch was missed. What is measured and what is excused stands in
pyproject.toml. While the tests run, a file in the site-packages of the running interpreter makes each process execute
`measured` that has the variable TWINLOCK_MEASURED in its environment.
"""

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import coverage

ROOT = Path(__file__).parents[2]
SOURCES = ("spawner/twinlock_spawner", "shared/twinlock_wire")


def main(arguments: list[str]) -> int:
    """The exit code, see above."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="twl-measured-", dir="/var/tmp") as name:
        folder = Path(name)
        folder.chmod(0o1777)  # processes of several users write into it
        for source in (ROOT / "pyproject.toml", Path(__file__).with_name("measured.py")):
            shutil.copyfile(source, folder / source.name)  # users may not be able to read the repository
            (folder / source.name).chmod(0o644)
        with _loaded(folder):
            status = _pytest(arguments, folder)
        complete = _all_reached(folder)
    return status or (0 if complete else 2)


@contextmanager
def _loaded(folder: Path) -> Iterator[None]:
    """A .pth file, whose lines are executed if they begin with an import: the only way into ``python -I``."""
    start = Path(sysconfig.get_paths()["purelib"], f"{folder.name}.pth")
    wanted = f"os.environ.get('TWINLOCK_MEASURED') == {str(folder)!r}"
    start.write_text(f"import os; {wanted} and exec(open({str(folder / 'measured.py')!r}).read(), {{}})\n")
    try:
        yield
    finally:
        start.unlink()


def _pytest(arguments: list[str], folder: Path) -> int:
    environment = os.environ | {"TWINLOCK_MEASURED": str(folder)}
    pytest = subprocess.Popen([sys.executable, "-m", "pytest", *arguments], env=environment, cwd=ROOT)
    signal.signal(signal.SIGTERM, lambda *_: pytest.terminate())
    signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C reaches pytest as well, and is for it to carry out
    return pytest.wait()


def _all_reached(folder: Path) -> bool:
    """Print the table; whether it shows as much as it has to."""
    os.chdir(ROOT)  # the table's names are relative to it
    measured = coverage.Coverage(data_file=folder / "data", config_file="pyproject.toml")
    measured.combine([str(folder)])
    for source in SOURCES:  # a file that was never loaded is missed, not left out
        measured.get_data().touch_files([str(path) for path in (ROOT / source).glob("*.py")])
    return measured.report() >= float(str(measured.get_option("report:fail_under")))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
