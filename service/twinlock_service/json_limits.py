"""
Limits of nesting and of the number of values in JSON, checked before anything decodes it.

Decoders take microseconds and hundreds of bytes for each value, so that some megabytes of brackets would hold up
everybody. Long strings cost next to nothing. What isn't JSON at all is left to the decoder, which says so.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator

from twinlock_service.chunks import TimeSlice

MAX_DEPTH = 64
"""How many lists and objects may stand one in the other."""

MAX_VALUES = 100_000
"""How many values a request may have, on all levels together."""

_WINDOW = 1024 * 1024
_PUNCTUATION = re.compile(rb'["\[\]{},]')
_INSIDE_STRING = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)


class JsonLimitError(ValueError):
    """A document has too many values, or is nested too deeply; the text says which."""


def check_json(body: bytes, max_values: int) -> None:
    """Check a document at once. JsonLimitError: it is beyond a limit."""
    for _ in _steps(body, max_values):
        pass


async def check_json_in_turns(body: bytes) -> None:
    """Check a document that may be large, and let others work meanwhile. JsonLimitError: it is beyond a limit."""
    time_slice = TimeSlice()
    for _ in _steps(body, MAX_VALUES):
        await time_slice.pause()


def _steps(body: bytes, max_values: int) -> Iterator[None]:
    """Check a document; yields after each piece of work, which is never longer than `_WINDOW`."""
    depth, values, position = 0, 0, 0
    while position < len(body):
        found = _PUNCTUATION.search(body, position, position + _WINDOW)
        position = position + _WINDOW if found is None else found.end()
        match found and found[0]:
            case b'"':
                position = yield from _end_of_string(body, position)
            case b"[" | b"{":
                depth, values = depth + 1, values + 1
            case b"]" | b"}":
                depth -= 1
            case b",":
                values += 1
        if depth > MAX_DEPTH:
            raise JsonLimitError(f"it is nested more than {MAX_DEPTH} levels deep")
        if values > max_values:
            raise JsonLimitError(f"it has more than {max_values:,} values")
        yield


def _end_of_string(body: bytes, start: int) -> Generator[None, None, int]:
    """The place behind the closing quote of the string whose text begins at `start`; the document's end without one."""
    position = start
    while position < len(body):
        window = position + _WINDOW
        found = _INSIDE_STRING.match(body, position, window)
        end = position if found is None else found.end()
        if body[end : end + 1] == b'"':
            return end + 1
        if end == position:  # a backslash at the document's end
            break
        position = end
        yield
    return len(body)
