"""The depth of JSON and its number of values, counted without decoding it."""

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twinlock_service.limits import chunks, json_complexity
from twinlock_service.limits.json_complexity import JsonLimitError, NotJsonError, check_json, check_json_in_turns

DOCUMENTS = st.recursive(
    st.none() | st.integers() | st.text(alphabet='ab"\\[]{},\n\u20ac', max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text('k"[', max_size=3), inner, max_size=4),
    max_leaves=20,
)


def depth(document: Any) -> int:
    """How many lists and objects stand one in the other."""
    if isinstance(document, dict):
        document = list(document.values())
    return 1 + max(map(depth, document), default=0) if isinstance(document, list) else 0


def values(document: Any) -> int:
    """Lists and objects, and the commas between what they hold."""
    if isinstance(document, dict):
        document = list(document.values())
    return max(1, len(document)) + sum(map(values, document)) if isinstance(document, list) else 0


def passes(body: bytes, most: int) -> bool:
    """Whether a document is within the limits."""
    try:
        check_json(body, most)
    except JsonLimitError:
        return False
    return True


@pytest.mark.parametrize("window", [2, 3, 5, 1000])
def test_any_document_is_counted_as_it_is(window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_complexity, "_WINDOW", window)
    monkeypatch.setattr(json_complexity, "MAX_DEPTH", 3)

    @given(DOCUMENTS, st.booleans())
    def check(document: Any, ascii_only: bool) -> None:
        body = json.dumps(document, ensure_ascii=ascii_only).encode()
        count = values(document)
        shallow = depth(document) <= 3
        assert passes(body, count) == shallow
        assert count == 0 or not passes(body, count - 1)

    check()


@given(st.binary(max_size=100))  # too short for what is beyond a limit
def test_only_what_is_no_json_is_called_that(body: bytes) -> None:
    try:
        json.loads(body.decode())
    except ValueError:
        return
    check_json(body, 200)


@pytest.mark.parametrize(
    ("body", "byte"),
    [
        (b"no sense", 1),
        (b"\\", 1),
        (b"[1 1]", 2),
        (b'{"a": #}', 5),
        (b"\x01{}", 1),
        ("{}".encode("utf-16-le"), 2),
        (b"[" + b"x" * 8 * 2**20, 2),
    ],
)
def test_what_is_no_json_is_refused_where_that_shows(body: bytes, byte: int) -> None:
    with pytest.raises(NotJsonError, match=f"at its byte {byte} "):
        check_json(body, 10)


@pytest.mark.parametrize("number", [b"1" * 101, b"-" + b"7" * 5000, b"[0." + b"3" * 3 * 2**20 + b"]"])
def test_a_number_has_so_many_digits(number: bytes) -> None:
    with pytest.raises(JsonLimitError, match="more than 100 digits"):
        check_json(number, 10)


@pytest.mark.parametrize("number", [b"1" * 100, b"-1.5e-7", b"Infinity", b"-Infinity", b"[NaN,true,false,null]"])
def test_whatever_is_a_value_passes(number: bytes) -> None:
    check_json(number, 10)


@pytest.mark.parametrize("body", [b'"', b'"\\', b'"\\"', b'["', b"", b'"' + b"\\" * 3])
def test_a_document_that_ends_too_early_comes_to_an_end(body: bytes) -> None:
    check_json(body, 1)


async def test_others_go_on_while_a_large_document_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "SLICE", 0.0)
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(other())
    await check_json_in_turns(b"[" + b'"' + b"x" * 8 * 2**20 + b'"' + b",0" * 1000 + b"]")
    beside.cancel()
    assert turns > 8
