"""``reached.py FOLDER``: show what tests have reached of root's code, see `measure`.

Exits with 2 where a line or a branch was missed.
"""

import marshal
import os
import sys
from collections import defaultdict
from pathlib import Path

import coverage
from measure import ROOT, SOURCES
from measured import Pairs


def main(folder: Path) -> int:
    """Print the table, and return the exit code."""
    os.chdir(ROOT)  # the names in pyproject.toml and in the table are relative to it
    started = coverage.CoverageData(folder / "data.started")
    started.add_arcs(reached(folder))
    started.write()
    measured = coverage.Coverage(data_file=folder / "data", config_file="pyproject.toml")
    measured.combine([str(path) for path in folder.rglob("data.*")])
    for source in SOURCES:  # a file that was never loaded is missed, not left out
        measured.get_data().touch_files([str(path) for path in (ROOT / source).glob("*.py")])
    complete = measured.report() >= float(str(measured.get_option("report:fail_under")))
    return 0 if complete else 2


def reached(folder: Path) -> dict[str, Pairs]:
    """What all processes have written into the folder and those below it."""
    found: defaultdict[str, Pairs] = defaultdict(set)
    for path in folder.rglob("*.reached"):
        for name, pairs in marshal.loads(path.read_bytes()).items():
            found[name] |= pairs
    return found


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
