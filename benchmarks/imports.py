"""Which modules import each other in a circle, so that none of them can be understood first."""

import ast
from collections import defaultdict
from collections.abc import Collection, Iterator
from pathlib import Path

_ROOT = Path(__file__).parents[1]
PACKAGES = tuple(
    _ROOT / folder
    for folder in (
        "shared/twinlock_wire",
        "shared/twinlock_common",
        "shared/twinlock_signed",
        "spawner/twinlock_spawner",
        "broker/twinlock_broker",
        "endpoint/twinlock_endpoint",
        "service/twinlock_service",
        "client/twinlock_client",
    )
)
"""The folder of each part's package."""


def in_circles(package: Path) -> set[str]:
    """Return the modules of the package in folder `package` that are in a circle, or above one."""
    above = _dependencies(package)
    while True:
        lowest = {module for module, below in above.items() if not below & above.keys()}
        if not lowest:
            return set(above)
        above = {module: below for module, below in above.items() if module not in lowest}


def arrows(package: Path, rooms: Collection[str]) -> dict[str, set[str]]:
    """Return by room which other rooms its modules import, at any place.

    Args:
        package: the folder of the package.
        rooms: folders and files of the package, by their dotted names in it. A module belongs to the innermost one that
            it is in, or is a room of its own if it is in none. The package's `__init__` isn't a room.
    """
    found: defaultdict[str, set[str]] = defaultdict(set)
    for module, below in _dependencies(package).items():
        room = _room(module, rooms)
        found[room] |= {_room(name, rooms) for name in below} - {room, ""}
    del found[""]
    return found


def _room(module: str, rooms: Collection[str]) -> str:
    inner = module.partition(".")[2]
    around = [room for room in rooms if f"{inner}.".startswith(f"{room}.")]
    return max(around, key=len, default=inner)


def _dependencies(package: Path) -> dict[str, set[str]]:
    """Return by module of the package which other modules of the package it imports, at any place."""
    imported = {_name(path, package): set(_imported(path)) for path in package.rglob("*.py")}
    return {module: names & imported.keys() - {module} for module, names in imported.items()}


def _name(path: Path, package: Path) -> str:
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import():
                yield from (alias.name for alias in node.names)
            case ast.ImportFrom():
                yield str(node.module)
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
