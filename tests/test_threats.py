"""THREATS.md: each test that it names is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "THREATS.md").read_text()
NAMED = sorted(set(re.findall(r"`(test_\w+\.py)(?:::(\w+))?`", TEXT)))
ALONE = sorted(set(re.findall(r"`(test_\w+)`", TEXT)))
"""Tests by their functions' names alone."""


@pytest.mark.parametrize(("file", "test"), NAMED)
def test_a_promise_has_its_test(file: str, test: str) -> None:
    [path] = (ROOT / "tests").rglob(file)
    assert f"def {test}(" in path.read_text() if test else "def test_" in path.read_text()


@pytest.mark.parametrize("test", ALONE)
def test_a_test_that_is_named_without_its_file_is_in_one_file(test: str) -> None:
    found = [path.name for path in (ROOT / "tests").rglob("test_*.py") if f"def {test}(" in path.read_text()]
    assert len(found) == 1, found


def test_promises_name_tests() -> None:
    assert len(NAMED) > 40


def test_each_attacker_has_a_test_in_each_mode() -> None:
    table = TEXT.partition("| attacker | plain mode | verified mode |\n")[2].partition("\n\n")[0]
    _, *rows = [line.strip("| ").split(" | ") for line in table.splitlines()]
    assert [row[0] for row in rows] == ["the broker", "the service", "a queue", "the network"]
    for _, plain, verified in rows:
        assert re.search(r"`test_\w+`", plain)
        assert re.search(r"`test_\w+`", verified)
