"""The layout that everything else relies on: imports run one way."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "shared": set(),
    "spawner": {"twinlock_wire"},
    "broker": {"twinlock_wire"},
    "endpoint": set[str](),
    "service": set[str](),
}
ROOTS_PACKAGES = {"msgpack", "prctl"}


def imported(part: str) -> set[str]:
    """The top-level names that a part's modules import, at any place in them."""
    names: set[str] = set()
    for path in (ROOT / part).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: relative import"
                names.add(str(node.module).partition(".")[0])
    return names


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_imports_run_one_way(part: str) -> None:
    ours = {name for name in imported(part) if name.startswith("twinlock_")}
    assert ours <= MAY_IMPORT[part] | {f"twinlock_{part}"}


@pytest.mark.parametrize("part", ["shared", "spawner"])
def test_root_imports_the_standard_library_and_two_packages(part: str) -> None:
    foreign = {name for name in imported(part) - sys.stdlib_module_names if not name.startswith("twinlock_")}
    assert foreign <= ROOTS_PACKAGES


def _dependencies(part: str) -> dict[str, set[str]]:
    """By module of a part's package: the modules of the same package that it imports."""
    package = f"twinlock_{part}"
    found = {}
    for path in (ROOT / part / package).rglob("*.py"):
        names = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] == package:
                names |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
        found[".".join(path.relative_to(ROOT / part).with_suffix("").parts)] = names
    return {module: names & found.keys() for module, names in found.items()}


@pytest.mark.parametrize("part", ["shared", "spawner"])
def test_root_code_imports_downwards_only(part: str) -> None:
    """Each file can be read with what is below it known, and nothing else."""
    above = _dependencies(part)
    while above:
        lowest = {module for module, names in above.items() if not names & above.keys()}
        assert lowest, f"a circle: {sorted(above)}"
        above = {module: names for module, names in above.items() if module not in lowest}
