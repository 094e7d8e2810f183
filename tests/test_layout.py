"""The layout that everything else relies on: imports run one way."""

import ast
import re
import sys
from pathlib import Path

import pytest
from imports import PACKAGES, arrows, in_circles

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "twinlock_wire": set[str](),
    "twinlock_common": set[str](),
    "twinlock_signed": {"twinlock_common"},
    "twinlock_spawner": {"twinlock_wire"},
    "twinlock_broker": {"twinlock_wire", "twinlock_common", "twinlock_signed"},
    "twinlock_endpoint": {"twinlock_common", "twinlock_signed"},
    "twinlock_service": {"twinlock_common"},
    "twinlock_client": {"twinlock_signed"},
}
"""By package: the others that it may import. Root runs the spawner, and so nothing of twinlock_common."""

_DATA = {"errors", "exits", "job_origin", "task"}
ROOMS = {
    **{name: set[str]() for name in sorted(_DATA)},
    "zygote": set[str](),
    "htex.node": set[str](),
    "worker": {"htex.node"},
    "config": _DATA,
    "home": {"config", "worker"} | _DATA,
    "journal": {"home"} | _DATA,
    "htex": {"config", "journal", "zygote"} | _DATA,
    "engines": {"config", "home", "htex", "journal", "worker", "zygote"} | _DATA,
    "queues": {"config", "worker"} | _DATA,
    "manager": {"queues", "worker"} | _DATA,
    "tasks": {"engines", "journal", "manager", "queues", "worker"} | _DATA,
    "verified": {"config", "journal", "manager", "queues", "tasks", "worker"} | _DATA,
    "life": {"config", "engines", "home", "journal", "manager", "queues", "tasks", "worker"} | _DATA,
    "start": {"config", "life", "engines", "home", "journal", "manager", "tasks", "verified"} | _DATA,
    "__main__": {"manager", "start", "worker"} | _DATA,
}
"""The endpoint's rooms, the lowest first, each with those that it may import. Nodes get worker and htex.node alone."""

ROOTS_PACKAGES = {"msgpack", "prctl"}
ON_NODES = {"globus_compute_sdk", "parsl", "zmq"}
"""What each node has beside the standard library: the official agent needs it."""
ENDPOINT = ROOT / "endpoint/twinlock_endpoint"
DOOR = ENDPOINT / "htex"
"""The only folder that may know what Parsl is like inside."""
BEHIND_NO_DOOR = ("shared", "spawner", "broker", "endpoint", "service", "client", "testbed", "benchmarks", "docs/tools")


def imported(package: Path) -> set[str]:
    """The top-level names that a package's modules import, at any place in them."""
    names: set[str] = set()
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: relative import"
                names.add(str(node.module).partition(".")[0])
    return names


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_imports_run_one_way(package: Path) -> None:
    ours = {name for name in imported(package) if name.startswith("twinlock_")}
    assert ours <= MAY_IMPORT[package.name] | {package.name}


def test_the_endpoints_rooms_import_downwards() -> None:
    found = arrows(ENDPOINT, ROOMS)
    assert found.keys() == ROOMS.keys(), "each file is in a room"
    others = {room: below - ROOMS[room] for room, below in found.items()}
    assert not any(others.values()), others
    order = list(ROOMS)
    assert all(below <= set(order[: order.index(room)]) for room, below in ROOMS.items())


def test_what_nodes_get_needs_no_more_than_is_there() -> None:
    for folder in ("worker", "htex/node"):
        assert imported(ENDPOINT / folder) - sys.stdlib_module_names <= {"twinlock_endpoint", *ON_NODES}


@pytest.mark.parametrize("folder", ["shared/twinlock_wire", "spawner/twinlock_spawner"])
def test_root_imports_the_standard_library_and_two_packages(folder: str) -> None:
    names = imported(ROOT / folder) - sys.stdlib_module_names
    foreign = {name for name in names if not name.startswith("twinlock_")}
    assert foreign <= ROOTS_PACKAGES


def test_signed_work_needs_one_package() -> None:
    """Users have it on their own computers."""
    foreign = imported(ROOT / "shared/twinlock_signed") - sys.stdlib_module_names
    assert foreign <= {"twinlock_signed", "twinlock_common", "nacl"}


BELOW_CONTEXT = {"errors", "limits", "users", "state", "rabbitmq"}
BELOW_TASKS = BELOW_CONTEXT | {"context", "request"}
SERVICE_ROOMS = {
    "errors": set[str](),
    "limits": set(),
    "users": {"errors"},
    "state": {"errors", "users"},
    "rabbitmq": {"errors", "limits", "users", "state"},
    "context": BELOW_CONTEXT,
    "request": BELOW_CONTEXT | {"context"},
    "tasks": BELOW_TASKS,
    "rest": BELOW_TASKS | {"tasks"},
    "page": BELOW_TASKS,
    "http_server": BELOW_TASKS | {"rest", "page"},
    "users_watcher": BELOW_CONTEXT | {"context"},
    "serve": BELOW_TASKS | {"tasks", "http_server", "users_watcher"},
    "__main__": {"errors", "users", "serve"},
}
"""By folder or loose file of the service: the others that it may import, as the package's docstring orders them."""


def test_folders_of_the_service_import_only_what_is_below_them() -> None:
    found = arrows(ROOT / "service/twinlock_service", SERVICE_ROOMS)
    assert found.keys() == SERVICE_ROOMS.keys()
    assert {room: others - SERVICE_ROOMS[room] for room, others in found.items()} == {room: set() for room in found}


def names_parsl(node: ast.AST) -> bool:
    """Whether it imports Parsl, or has the dotted name of something in Parsl as a text, such as for `python -m`."""
    match node:
        case ast.Import():
            return any(alias.name.partition(".")[0] == "parsl" for alias in node.names)
        case ast.ImportFrom():
            return str(node.module).partition(".")[0] == "parsl"
        case ast.Constant(value=str(text)):
            return re.fullmatch(r"parsl(\.[a-z_]+)+", text) is not None
    return False


@pytest.mark.parametrize("folder", BEHIND_NO_DOOR)
def test_nothing_but_htex_names_what_is_inside_parsl(folder: str) -> None:
    """Not even its documented modules: what a template names is looked up in `htex/parsl_types.py`.

    Without an import nobody can come by a private member either, but through an object that htex hands out.
    """
    outside = [path for path in (ROOT / folder).rglob("*.py") if not path.is_relative_to(DOOR)]
    assert outside
    assert [str(path) for path in outside if any(map(names_parsl, ast.walk(ast.parse(path.read_text()))))] == []


@pytest.mark.parametrize("code", ["import os, parsl.config", "def f():\n from parsl import File", "a = 'parsl.app'"])
def test_an_import_of_parsl_is_found(code: str) -> None:
    assert any(map(names_parsl, ast.walk(ast.parse(code))))


def test_engines_reach_for_no_private_member_of_what_htex_hands_out() -> None:
    found = [
        f"{path.name}: {node.value.id}.{node.attr}"
        for path in (DOOR.parent / "engines").glob("globus_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
        if re.match("_[^_]", node.attr) and node.value.id != "self"
    ]
    assert found == []


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


def test_an_arrow_between_rooms_is_found(tmp_path: Path) -> None:
    package = tmp_path / "house"
    (package / "cellar" / "safe").mkdir(parents=True)
    (package / "__init__.py").write_text("from house import roof\n")
    (package / "roof.py").write_text("def look() -> None:\n    from house.cellar import wine\n")
    (package / "cellar" / "wine.py").write_text("import house.cellar.safe.gold\nfrom house.cellar import bread\n")
    (package / "cellar" / "bread.py").write_text("import house\n")
    (package / "cellar" / "safe" / "gold.py").write_text("import os\n")
    found = arrows(package, ["cellar", "cellar.safe"])
    assert found == {"roof": {"cellar"}, "cellar": {"cellar.safe"}, "cellar.safe": set()}
