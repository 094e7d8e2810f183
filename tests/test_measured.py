"""What `measured` notes of a program that takes every way through a block is what coverage notes of it."""

import subprocess
import sys
from pathlib import Path

import coverage
from measure import loaded
from reached import reached

PROGRAM = """
import contextlib
import os
import sys


def numbers(last):
    for number in range(last):
        if number % 2:
            yield number
    else:
        yield "else"
    yield from [1, 2]


def fails(value):
    try:
        return 1 / value
    except ZeroDivisionError as error:
        if value is None:
            raise
        print(error)
    else:
        print("no")
    finally:
        print("end")


@contextlib.contextmanager
def managed():
    try:
        yield 1
    finally:
        print("left")


class Held:
    count = 0

    def __enter__(self):
        self.count += 1
        return self

    def __exit__(self, *_):
        return self.count == 1


def escapes():
    with managed(), Held():
        raise ValueError
    while True:
        if sys.argv:
            break
    match sys.argv:
        case []:
            print("none")
        case [_]:
            raise KeyError


next(numbers(3))
print([number for number in numbers(5) if number], {n: n for n in range(2)}, (lambda: 1)())
fails(0)
fails(2)
try:
    fails("word")
except TypeError:
    print("type")
try:
    escapes()
except KeyError:
    print("key")
child = os.fork()
if child == 0:
    fails(3)
    os._exit(0)
os.waitpid(child, 0)
"""


def test_it_notes_what_coverage_notes(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    with loaded(tmp_path, (program.name,)) as environment:
        subprocess.run([sys.executable, "-I", program], env=environment, check=True, timeout=60)
    noted = reached(tmp_path)[str(program)]
    assert noted
    assert noted == _coverage_of(program)


def _coverage_of(program: Path) -> set[tuple[int, int]]:
    """The same by coverage, in the process itself and in its child."""
    (program.parent / "rc").write_text("[run]\nbranch = true\nparallel = true\npatch = _exit\n")
    words = [sys.executable, "-m", "coverage", "run", f"--rcfile={program.parent / 'rc'}", str(program)]
    subprocess.run(words, cwd=program.parent, check=True, timeout=60)
    found: set[tuple[int, int]] = set()
    for path in program.parent.glob(".coverage.*"):
        data = coverage.CoverageData(path)
        data.read()
        found.update(data.arcs(str(program)) or ())
    return found
