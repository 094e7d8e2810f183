"""Tables of configuration keys."""

from typing import Any

import pytest
from twinlock_common.keys import FLAG, NAME, TEXT, Key, Kind, nearest


@pytest.mark.parametrize(
    ("kind", "value", "read"),
    [
        (TEXT, "a", "a"),
        (NAME, "a", "a"),
        (NAME, "None", None),
        (FLAG, True, True),
        (FLAG, "Yes", True),
        (FLAG, 0, False),
        (FLAG, "off", False),
        (TEXT, None, "the default"),
    ],
)
def test_what_a_value_means(kind: Kind, value: Any, read: Any) -> None:
    assert Key("key", kind, "the default", "", "").read(value) == read


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (TEXT, 1),
        (NAME, True),
        (FLAG, 2),
        (FLAG, "maybe"),
        (FLAG, 1.0),
        (Kind("a number", float), [1]),
        (Kind("a number", float), 10**400),
    ],
)
def test_a_value_of_another_kind(kind: Kind, value: Any) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - who reads a table has a text of its own
        Key("key", kind, None, "", "").read(value)


def test_what_was_probably_meant() -> None:
    assert nearest("Labl", ["label", "address"]) == "did you mean 'label'?"
    assert nearest("x", ["label", "address"]) == "known are: address, label"
