"""The table of mutants: each of its edits can be made, and names tests that are there. `make mutants` runs them."""

from pathlib import Path

import pytest
from mutant_table import TableError, check_table, read_table


def test_each_mutant_can_be_made() -> None:
    check_table(read_table())


ENTRY = {
    "removes": "something",
    "file": "shared/twinlock_wire/wire.py",
    "old": "if encode(message) != data:",
    "new": "if False:",
    "tests": ["tests/shared/test_wire.py::test_one_byte_over_the_cap"],
}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"file": "broker/twinlock_broker/__main__.py"}, "there is no broker"),
        ({"file": "shared/twinlock_wire/nothing.py"}, "there is no shared"),
        ({"old": "no such text"}, "0 times"),
        ({"old": "raise WireError"}, "times, not once"),
        ({"new": "if True"}, "breaks the code"),
        ({"new": "if nothing:"}, "breaks the code"),
        ({"new": "if (encode(message) != data):"}, "changes nothing"),
        ({"tests": ["tests/shared/test_wire.py::test_nothing"]}, "there is no test"),
        ({"tests": ["tests/shared/test_nothing.py::test_nothing"]}, "there is no tests/shared/test_nothing.py"),
        ({"tests": []}, "a list of tests"),
        ({"test": "x"}, "it has to have"),
        ({"old": 7}, "it has to have"),
    ],
)
def test_a_mutant_that_proves_nothing_is_an_error(tmp_path: Path, change: dict[str, object], reason: str) -> None:
    entry = "".join(f"{name} = {value!r}\n" for name, value in (ENTRY | change).items())
    (tmp_path / "topic.toml").write_text(f"[[mutant]]\n{entry}")
    with pytest.raises(TableError, match=reason):
        check_table(read_table(tmp_path))
