"""YAML files in which a key stands twice."""

import pytest
import yaml
from twinlock_common.unique_keys import DuplicateKeyError, UniqueKeyLoader


def read(text: str) -> object:
    """What stands in it."""
    return yaml.load(text, UniqueKeyLoader)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("a: 1\nb: 2\na: 3\n", (1, 3)),
        ("a: 1\n'a': 2\n", (1, 2)),
        ("x:\n  - a: 1\n    b: {c: 1, c: 2}\n", (3, 3)),
        ("1: a\n1: b\n", (1, 2)),
    ],
)
def test_the_lines_of_a_key_that_stands_twice_are_told(text: str, lines: tuple[int, int]) -> None:
    with pytest.raises(DuplicateKeyError, match=f"is on line {lines[0]} already; remove one") as refused:
        read(text)
    assert (refused.value.first_line, refused.value.line) == lines


def test_keys_that_only_look_the_same_are_different() -> None:
    assert read("1: a\n'1': b\n") == {1: "a", "1": "b"}
    assert read("a: {x: 1}\nb: {x: 2}\n") == {"a": {"x": 1}, "b": {"x": 2}}


def test_two_merges_are_no_key() -> None:
    text = "- &one {a: 1}\n- &two {b: 2}\n- {<<: *one, <<: *two, c: 3}\n"
    assert read(text) == [{"a": 1}, {"b": 2}, {"a": 1, "b": 2, "c": 3}]
