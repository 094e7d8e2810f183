"""The tables of what is used of Parsl: what a row finds, and what is said of a Parsl that differs."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from twinlock_endpoint import htex
from twinlock_endpoint.htex.compat import check
from twinlock_endpoint.htex.compat.use import Use

HTEX = Path(htex.__path__[0])
DOCUMENTED = {
    "parsl.addresses",
    "parsl.launchers",
    "parsl.launchers.base",
    "parsl.providers",
    "parsl.providers.base",
    "parsl.version",
}
"""Modules whose names are in Parsl's reference, and that configurations name or that tell its release."""
CHANGED = """
from twinlock_endpoint.htex import lazy_imports
from twinlock_endpoint.htex.compat import check
with lazy_imports.parsl():
    from parsl.executors.high_throughput import interchange, process_worker_pool
    del process_worker_pool.SHUTDOWN_CODE
    interchange.Interchange.get_tasks = lambda self, count, more: []
    check.require()
"""
"""What happens with a Parsl that lacks a name and has a method with another parameter."""


def use(name: str, takes: str = "", names: str = "") -> Use:
    return Use(name, "", "", "", takes=takes, names=names)


@pytest.mark.parametrize(
    "row",
    [
        use("json:dumps"),
        use("json.decoder:JSONDecoder.decode"),
        use("json:dump", takes="obj fp"),
        use("json:dump", takes="obj fp indent"),
        use("json.decoder:JSONDecoder.decode", takes="s", names="raw_decode end"),
        use("json.decoder:JSONDecoder.__init__", names="parse_float"),
    ],
    ids=str,
)
def test_what_is_there(row: Use) -> None:
    assert row.is_there()


@pytest.mark.parametrize(
    "row",
    [
        use("nowhere:dumps"),
        use("json:nowhere"),
        use("json.decoder:JSONDecoder.nowhere"),
        use("json:dump", takes="obj"),
        use("json:dump", takes="obj fp nowhere"),
        use("json.decoder:JSONDecoder.decode", names="raw_decode nowhere"),
    ],
    ids=str,
)
def test_what_is_not_there_or_otherwise(row: Use) -> None:
    assert not row.is_there()


def test_each_row_names_a_module_of_htex_and_why() -> None:
    for row in check.USES:
        assert HTEX.joinpath(*row.where.split(".")).with_suffix(".py").is_file(), row
        assert row.why
        assert row.since.startswith("2026."), row


def imported(path: Path) -> Iterator[str]:
    """What a file imports of Parsl, each as the tables would name it; a module with a colon behind it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (f"{alias.name}:" for alias in node.names if alias.name.startswith("parsl"))
        elif isinstance(node, ast.ImportFrom) and str(node.module).startswith("parsl"):
            yield from (f"{node.module}:{alias.name}" for alias in node.names)


def test_all_that_is_imported_has_a_row() -> None:
    rows = [row.name for row in check.USES]
    found = {name for path in HTEX.rglob("*.py") for name in imported(path) if name.split(":")[0] not in DOCUMENTED}
    assert found
    for name in found:
        module = name.replace(":", ".") + ":"
        assert any(row == name or row.startswith((f"{name}.", module)) for row in rows), name


def test_a_parsl_that_was_changed_is_refused_with_what_is_different() -> None:
    done = subprocess.run([sys.executable, "-c", CHANGED], capture_output=True, text=True, check=False)
    assert done.returncode
    last = done.stderr.splitlines()[-1]
    assert "isn't as it was released; it differs in " in last
    assert "Interchange.get_tasks" in last
    assert "process_worker_pool:SHUTDOWN_CODE" in last
