"""The depth of JSON and its number of values, counted without decoding it."""

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twinlock_service.limits import chunks, json_complexity
from twinlock_service.limits.json_complexity import JsonLimitError, check_json, check_json_in_turns

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


@given(st.binary(max_size=200))
def test_what_is_no_json_is_left_to_the_decoder(body: bytes) -> None:
    passes(body, 10)


@pytest.mark.parametrize("body", [b'"', b'"\\', b'"\\"', b'["', b"\\", b"", b'"' + b"\\" * 3])
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
