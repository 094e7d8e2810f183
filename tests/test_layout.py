"""The layout that everything else relies on: imports run one way."""

import ast
import sys
from pathlib import Path

import pytest
from imports import PACKAGES, in_circles

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


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_no_imports_go_in_a_circle(package: Path) -> None:
    """Each file can be read with what is below it known, and nothing else."""
    assert in_circles(package) == set()


def test_a_circle_is_found(tmp_path: Path) -> None:
    """Where it closes inside a function as well; what only uses the circle is named, what is below it isn't."""
    package = tmp_path / "house"
    package.mkdir()
    (package / "roof.py").write_text("from house import wall\n")
    (package / "wall.py").write_text("from house.door import handle\n")
    (package / "door.py").write_text("import house.floor\ndef handle() -> None:\n    from house import wall\n")
    (package / "floor.py").write_text("")
    assert in_circles(package) == {"house.roof", "house.wall", "house.door"}
