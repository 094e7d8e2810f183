"""Statements: strict JSON in ASCII."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twinlock_signed.errors import Refused
from twinlock_signed.statement import NUMBER, OBJECT, TEXT, TIME, UUID, decode, encode, hexadecimal

FORMS = {"name": TEXT, "more": OBJECT}
LARGE = 1 << 63

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-LARGE, LARGE)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


def read(data: bytes) -> dict[str, Any]:
    return decode("statement", data, 100_000, FORMS)


@given(st.text(), st.dictionaries(st.text(), values, max_size=4))
def test_what_is_written_is_read_again(name: str, more: dict[str, Any]) -> None:
    fields = {"name": name, "more": more}
    try:
        json.dumps(fields, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # half a surrogate pair
        with pytest.raises(Refused):
            read(encode(fields))
    else:
        assert read(encode(fields)) == fields


@given(st.binary(max_size=60) | st.text(alphabet='{}[]":,\\ud8000aenul-1.E ', max_size=60).map(str.encode))
def test_nothing_but_a_refusal_comes_of_other_bytes(data: bytes) -> None:
    """Or they are a statement by the rules of JSON as well."""
    try:
        fields = read(data)
    except Refused:
        return
    assert fields == json.loads(data)
    assert fields.keys() == FORMS.keys()


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ('{"a":1,"a":1}', "'a' stands twice"),
        ('{"b":[{"a":1,"\\u0061":2}]}', "'a' stands twice"),
        ("NaN", "NaN is not a number"),
        ("[Infinity]", "Infinity is not a number"),
        ("-Infinity", "-Infinity is not a number"),
        ("1e999", "a number is too large"),
        ("123456789012345678901", "a whole number is too large"),
        ("[" * 50_000 + "]" * 50_000, "recursion|too deep"),
        ('"\\ud800"', "surrogates not allowed"),
        ('"\\uDCFF"', "surrogates not allowed"),
        ("{},", "property name|trailing comma"),  # the second from Python 3.13 on
        ('"\u00e9"', "printable ASCII"),
        ('"\t"', "printable ASCII"),
        ('"a"\n', "printable ASCII"),
        ("\x00", "printable ASCII"),
        ("01", "strict JSON"),
        ("{'a':1}", "strict JSON"),
    ],
)
def test_what_strict_json_hasnt(more: str, reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        decode("statement", f'{{"name":"x","more":{more}}}'.encode(), 200_000, FORMS)


@pytest.mark.parametrize(("open_", "close"), [("[", "]"), ('{"a":', "}")])
def test_what_is_nested_too_deeply(open_: str, close: str) -> None:
    """Though Python reads it; but what is made of it later may not."""

    def nested(depth: int) -> bytes:
        return b'{"name":"x","more":{"a":%b}}' % f"{open_ * depth}1{close * depth}".encode()

    read(nested(98))
    with pytest.raises(Refused, match="The statement has over 100 lists and objects inside of each other"):
        read(nested(99))


@pytest.mark.parametrize("data", [b"[]", b"null", b'"a"', b"1", b"true"])
def test_a_statement_is_an_object(data: bytes) -> None:
    with pytest.raises(Refused, match="not a JSON object"):
        read(data)


def test_each_field_is_there_once_and_no_other() -> None:
    with pytest.raises(Refused, match="The statement has an unknown field 'other'"):
        read(b'{"name":"x","more":{},"other":1}')
    with pytest.raises(Refused, match="The statement has no field 'more'"):
        read(b'{"name":"x"}')
    with pytest.raises(Refused, match="'name' is not a text"):
        read(b'{"name":1,"more":{}}')
    with pytest.raises(Refused, match="'name' stands twice"):
        read(b'{"name":"x","name":"x","more":{}}')


def test_one_byte_too_many() -> None:
    data = b'{"name":"x","more":{}}'
    decode("statement", data, len(data), FORMS)
    with pytest.raises(Refused, match="has 22 bytes, and may have 21"):
        decode("statement", data, len(data) - 1, FORMS)


@pytest.mark.parametrize(
    ("form", "good", "bad"),
    [
        (NUMBER, [0, 1 << 53], [-1, (1 << 53) + 1, 1.0, True, "1", None]),
        (TIME, [0, 1764444444], [-1, 1764444444.5, False, 1 << 41]),
        (UUID, ["11111111-2222-4333-8444-555555555555"], ["1" * 32, "A1111111-2222-4333-8444-555555555555", 1]),
        (hexadecimal(4), ["00ff"], ["00f", "00FF", "00fff", "00ff\n", "\u06600ff"]),
        (TEXT, ["", "a"], [b"", None, 1]),
        (OBJECT, [{}], [[], None, "{}"]),
    ],
)
def test_forms(form: Any, good: list[object], bad: list[object]) -> None:
    assert all(map(form.accepts, good))
    assert not any(map(form.accepts, bad))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, b"x"])
def test_what_json_cant_say_is_not_written(value: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        encode({"name": value})
