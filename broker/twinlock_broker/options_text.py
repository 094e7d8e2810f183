"""A user's options as one short line, for a table of endpoints that differ in them."""

import json
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from twinlock_broker import hidden
from twinlock_broker.printable import printable

LONGEST = 200
"""Characters of the line."""


def shorten(options: Any) -> str:
    """Return the options as compact JSON, cut off after some characters; empty if there are none."""
    text = ""
    for piece in _pieces(options) if options else ():
        text += piece
        if len(text) > LONGEST:  # options may have half a megabyte, and this is for a glance
            break
    return printable(text, LONGEST)


def names(options: Iterable[str]) -> str:
    """Return the names of the options in one line, for a log: their values may be secret, whatever the names say."""
    text = ""
    for name in options:
        text += f", {name[:LONGEST]}" if text else name[:LONGEST]
        if len(text) > LONGEST:
            break
    return printable(text, LONGEST)


def _pieces(value: Any) -> Iterator[str]:
    """Yield the parts of the value's JSON one by one, without the secrets."""
    if isinstance(value, dict):
        members = (_member(name, part) for name, part in value.items())
        yield from _enclosed("{", members, "}")
    elif isinstance(value, list):
        yield from _enclosed("[", (_pieces(part) for part in value), "]")
    elif isinstance(value, str):
        yield _json(hidden.scrub(value[: 2 * LONGEST]))
    else:
        yield _json(value)


def _member(name: str, value: Any) -> Iterator[str]:
    shown = name[:LONGEST]
    return chain([f"{_json(shown)}:"], [_json(hidden.HIDDEN)] if hidden.is_secret(shown) else _pieces(value))


def _enclosed(opening: str, parts: Iterator[Iterator[str]], closing: str) -> Iterator[str]:
    yield opening
    for number, part in enumerate(parts):
        yield from chain([","] if number else [], part)
    yield closing


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
