"""Limits of nesting and of the number of values in JSON, checked before anything decodes it.

Decoders take microseconds and hundreds of bytes for each value, so that some megabytes of brackets would hold up
everybody. Long strings cost next to nothing. What isn't JSON is given up at the first byte that shows it.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator

from twinlock_service.limits.chunks import TimeSlice

MAX_DEPTH = 64
"""How many lists and objects may stand one in the other."""

MAX_VALUES = 100_000
"""How many values a request may have, on all levels together."""

MAX_DIGITS = 100
"""How many digits a number may have in one row: what it takes to decode them grows with their square."""

MAX_ESCAPES = 4_000_000
"""How many characters of a request's texts may be escaped; of base64 in lines it is every 77th."""

_WINDOW = 1024 * 1024
_UP_TO_SIGN = re.compile(rb'[ \t\r\n:]*+([-+.0-9Ee]*+[A-Za-z]{0,8}+)[ \t\r\n:]*+(["\[\]{},]|\Z)')
_MANY_DIGITS = re.compile(rb"[0-9]{%d}" % (MAX_DIGITS + 1))
_INSIDE_STRING = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)


class JsonLimitError(ValueError):
    """A document has too many values, or is nested too deeply; the text says which."""


class NotJsonError(ValueError):
    """A document isn't JSON; the text says where that shows."""


def check_json(body: bytes, max_values: int) -> None:
    """Check a document in one go. Raise `JsonLimitError` if it is beyond a limit, and `NotJsonError`."""
    for _ in _steps(body, max_values):
        pass


async def check_json_in_turns(body: bytes, max_values: int = MAX_VALUES) -> None:
    """Check a document that may be large, and let others work meanwhile.

    Raise `JsonLimitError` if it is beyond a limit, and `NotJsonError` if it can be seen not to be JSON; a decoder may
    find more.
    """
    time_slice = TimeSlice()
    for _ in _steps(body, max_values):
        await time_slice.pause()


async def check_escapes_in_turns(body: bytes) -> None:
    """Check that the escaped characters in a document's texts can be decoded soon. Raise `JsonLimitError` if not."""
    escapes, time_slice = 0, TimeSlice()
    for start in range(0, len(body), _WINDOW):
        escapes += body.count(b"\\", start, start + _WINDOW)
        if escapes > MAX_ESCAPES:
            raise JsonLimitError(f"it has more than {MAX_ESCAPES:,} escaped characters")
        await time_slice.pause()


def _steps(body: bytes, max_values: int) -> Iterator[None]:
    """Check a document; yield after each piece of work, which is never longer than `_WINDOW`."""
    depth, values, strings, position = 0, 0, 0, 0
    while position < len(body):
        found = _UP_TO_SIGN.match(body, position, position + _WINDOW)
        if found is None:
            raise NotJsonError(f"it isn't JSON: what begins at its byte {position + 1:,} doesn't belong there")
        literal, sign = found.groups()
        if _MANY_DIGITS.search(literal):
            raise JsonLimitError(f"it has a number of more than {MAX_DIGITS} digits")
        position = found.end()
        match sign:
            case b'"':
                strings += 1
                position = yield from _end_of_string(body, position)
            case b"[" | b"{":
                depth, values = depth + 1, values + 1
            case b"]" | b"}":
                depth -= 1
            case b",":
                values += 1
        if depth > MAX_DEPTH:
            raise JsonLimitError(f"it is nested more than {MAX_DEPTH} levels deep")
        # Of what is JSON, at most every second string is a key, and every other one a value.
        if values > max_values or strings > 2 * max_values + 1:
            raise JsonLimitError(f"it has more than {max_values:,} values")
        yield


def _end_of_string(body: bytes, start: int) -> Generator[None, None, int]:
    """Return the position behind a string's closing quote, or the document's end if there is none.

    `start` is where the string's text begins.
    """
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
