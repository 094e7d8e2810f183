"""The table of mutants: edits that each take one check away from root's code, and the tests that have to notice.

An entry stands in a TOML file of tests/mutants, one for each source file or topic; CONTRIBUTING.md says how one is
written. An edit that can't be made any more, or that breaks the code, is an error in the table and proves nothing.
"""

import ast
import functools
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "tests/mutants"
PACKAGES = ("spawner/twinlock_spawner", "shared/twinlock_wire")


class TableError(ValueError):
    """An entry that can't be used; the text says which and why."""


@dataclass(frozen=True)
class Mutant:
    """An entry of the table."""

    topic: str
    """The name of its file, without the suffix."""

    removes: str
    """What the edit takes away, in words."""

    file: str
    """The source file, from the repository's root."""

    old: str
    """A text that stands in the file exactly once."""

    new: str
    """What takes its place."""

    tests: tuple[str, ...]
    """As pytest has them, FILE::TEST or FILE::TEST[PARAMETERS]. At least one has to fail."""

    def __str__(self) -> str:
        return f"{self.topic}: {self.removes}"

    def edited(self) -> str:
        """The source file's text with the edit. Raises `TableError` where that can't be made."""
        if not self.file.startswith(PACKAGES) or not (ROOT / self.file).is_file():
            raise TableError(f"{self}: there is no {self.file} among {', '.join(PACKAGES)}")
        text = (ROOT / self.file).read_text()
        if text.count(self.old) != 1:
            raise TableError(f"{self}: its old text stands in {self.file} {text.count(self.old)} times, not once")
        edited = text.replace(self.old, self.new)
        try:
            same = ast.dump(ast.parse(edited)) == _meaning(text)
        except SyntaxError as error:
            raise TableError(f"{self}: the edit breaks the code: {error}") from error
        if same:
            raise TableError(f"{self}: the edit changes nothing")
        return edited


@functools.cache
def _meaning(code: str) -> str:
    """What an edit that changes nothing leaves as it is."""
    return ast.dump(ast.parse(code))


def read_table(folder: Path = TABLE) -> list[Mutant]:
    """Every entry of the folder's files. Raises `TableError` where one has other keys, or values of another kind."""
    mutants = [mutant for path in sorted(folder.glob("*.toml")) for mutant in _read_file(path)]
    twice = [name for name, count in Counter(map(str, mutants)).items() if count > 1]
    if twice:
        raise TableError(f"there are two entries {twice[0]}")
    return mutants


def _read_file(path: Path) -> Iterator[Mutant]:
    wanted = {field.name for field in fields(Mutant)} - {"topic"}
    for entry in tomllib.loads(path.read_text())["mutant"]:
        tests = entry.get("tests")
        texts = [value for name, value in entry.items() if name != "tests"]
        if set(entry) != wanted or not tests or not all(isinstance(text, str) for text in [*texts, *tests]):
            raise TableError(
                f"{path.name}: {entry.get('removes')}: it has to have texts {sorted(wanted)}, and a list of tests"
            )
        yield Mutant(path.stem, **entry | {"tests": tuple(tests)})


def check_table(mutants: list[Mutant]) -> None:
    """Raise `TableError` for an edit that can't be made, breaks the code or is there twice, or for a missing test."""
    _check_names(mutants)
    _check_edits(mutants)
    there = _collect(sorted({test.partition("::")[0] for mutant in mutants for test in mutant.tests}))
    for mutant in mutants:
        for test in mutant.tests:
            if test not in there:
                raise TableError(f"{mutant}: there is no test {test}")


def _collect(files: list[str]) -> set[str]:
    """The tests in these files, each also without its parameters."""
    missing = [file for file in files if not (ROOT / file).is_file()]
    if missing:
        raise TableError(f"there is no {missing[0]}")
    argv = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *files]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode != 0:
        raise TableError(f"the tests can't be collected:\n{done.stdout}{done.stderr}")
    tests = {line for line in done.stdout.splitlines() if "::" in line}
    return tests | {test.partition("[")[0] for test in tests}


def _check_edits(mutants: list[Mutant]) -> None:
    """Raise `TableError` where two entries make one edit."""
    made: dict[tuple[str, str], Mutant] = {}
    for mutant in mutants:
        other = made.setdefault((mutant.file, mutant.edited()), mutant)
        if other is not mutant:
            raise TableError(f"{mutant}: {other} is the same edit")


def _check_names(mutants: list[Mutant]) -> None:
    """Make all edits, and have ruff look for names that they leave undefined."""
    with tempfile.TemporaryDirectory() as folder:
        for number, mutant in enumerate(mutants):
            Path(folder, f"{number}.py").write_text(mutant.edited())
        ruff = str(Path(sys.executable).with_name("ruff"))
        argv = [ruff, "check", "--isolated", "--output-format=concise", "--select=F821,F822,F823", folder]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode != 0:
        file, _, error = done.stdout.partition(".py:")
        broken = mutants[int(file.rpartition("/")[2])]
        raise TableError(f"{broken}: the edit breaks the code: {error.splitlines()[0]}")
