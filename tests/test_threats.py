"""THREATS.md: each test that it names is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NAMED = sorted(set(re.findall(r"`(test_\w+\.py)(?:::(\w+))?`", (ROOT / "THREATS.md").read_text())))


@pytest.mark.parametrize(("file", "test"), NAMED)
def test_a_promise_has_its_test(file: str, test: str) -> None:
    [path] = (ROOT / "tests").rglob(file)
    assert f"def {test}(" in path.read_text() if test else "def test_" in path.read_text()


def test_promises_name_tests() -> None:
    assert len(NAMED) > 40
