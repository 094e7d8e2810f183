"""The table of mutants: each of its edits can be made, and names tests that are there. `make mutants` runs them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from mutant_box import Boxes, Outcome, boxes
from mutant_table import Mutant, TableError, check_table, read_table


@pytest.mark.thorough
def test_each_mutant_can_be_made() -> None:
    check_table(read_table())


ENTRY = {
    "removes": "something",
    "file": "shared/twinlock_wire/wire.py",
    "old": "if encode(message) != data:",
    "new": "if False:",
    "tests": ["tests/shared/test_wire.py::test_one_byte_over_the_cap"],
}


@pytest.mark.cases(3)
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


def test_one_edit_has_one_entry(tmp_path: Path) -> None:
    for topic in ("first", "second"):
        lines = "".join(f"{name} = {value!r}\n" for name, value in ENTRY.items())
        (tmp_path / f"{topic}.toml").write_text(f"[[mutant]]\n{lines}")
    with pytest.raises(TableError, match="second: something: first: something is the same edit"):
        check_table(read_table(tmp_path))


@pytest.fixture(scope="module")
def made() -> Iterator[Boxes]:
    """Where mutants are run."""
    with boxes() as made:
        yield made


CHECK = "if encode(message) != data:"
NOTICES = "tests/shared/test_wire.py::test_another_form_of_an_empty_page"
DOESNT = "tests/shared/test_wire.py::test_messages_of_equal_fields_keep_their_kind"


@pytest.mark.thorough
@pytest.mark.system
@pytest.mark.parametrize(
    ("new", "test", "outcome"),
    [
        ("if False:", NOTICES, Outcome.CAUGHT),
        ("if False:", DOESNT, Outcome.SURVIVED),
        ("while True:\n        continue\n    if False:", NOTICES, Outcome.TIMED_OUT),
        ("if True:\n        raise SystemExit\n    if False:", "tests/shared/test_nothing.py", Outcome.BROKEN),
        ("if False:\n        pass\n\n\nraise RuntimeError\nif True:\n    if True:", NOTICES, Outcome.BROKEN),
    ],
    ids=["noticed", "not noticed", "hangs", "no test", "cannot be loaded"],
)
def test_what_becomes_of_a_mutant(made: Boxes, new: str, test: str, outcome: Outcome) -> None:
    mutant = Mutant("topic", "something", "shared/twinlock_wire/wire.py", CHECK, new, (test,))
    assert made.run(mutant, mutant.tests, 5 if outcome is Outcome.TIMED_OUT else 120).outcome is outcome


WAITS = "tests/spawner/test_spawner_locks.py::test_the_next_spawner_waits_for_the_keeper"


@pytest.mark.system
@pytest.mark.parametrize(
    ("file", "old", "new", "outcome"),
    [
        ("__main__.py", "options = _parse_arguments()", "sys.exit(70)", Outcome.BROKEN),
        ("locks.py", "if time.monotonic() > deadline:", "if True:", Outcome.CAUGHT),
    ],
    ids=["the first doesn't", "the second doesn't"],
)
def test_a_spawner_that_does_not_start_shows_something_only_to_who_asks_for_it(
    made: Boxes, file: str, old: str, new: str, outcome: Outcome
) -> None:
    mutant = Mutant("topic", "something", f"spawner/twinlock_spawner/{file}", old, new, (WAITS,))
    assert made.run(mutant, mutant.tests, 120).outcome is outcome
