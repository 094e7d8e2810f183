"""A check that each text of the options stayed within one value of the rendered configuration.

A text is written as a double-quoted scalar, which is a value wherever a template puts it by itself. If a template has
quotes of its own around it, the two pairs of quotes meet, and what is between them can read as YAML:
in ``{account: "{{ x }}", nodes: 1}`` the option ``, nodes: 100, z: `` would be two more keys.
"""

import bisect
import re
from collections.abc import Iterator
from typing import Any

import yaml

from twinlock_common.rendering.errors import RenderingError
from twinlock_common.rendering.options import quote

# Without one of these no text can end a value or begin a key, in whichever quotes.
_STRUCTURAL = re.compile(r"[,:#\[\]{}'\"\\]")


def check(text: str, options: dict[str, Any]) -> None:
    """Raise `RenderingError` for an option that is more than a value in `text`.

    A `text` that can't be divided into YAML's tokens passes: it can't be used in any case.
    """
    # A template may have changed a text to capitals.
    texts = [found for found in _texts(options) if _STRUCTURAL.search(found)]
    literals = {_without_case(literal) for found in texts for literal in _spellings(found)}
    caseless = _without_case(text) if literals else ""
    present = [literal for literal in literals if literal in caseless]
    if not present:
        return
    try:
        scalars = _scalars(text)
    except yaml.YAMLError:
        return
    starts = _starts_without_case(text)
    for literal in present:
        for found in _occurrences(caseless, literal):
            start, end = starts[found], starts[found + len(literal) - 1] + 1
            if not _contained(text, scalars, start, end):
                raise RenderingError(
                    f"The option {literal[:100]} would be more than a value where the endpoint's template puts it: "
                    "leave out its quotes, commas, colons and brackets, or tell the endpoint's administrator, whose "
                    "template may put quotes around an option, which has its own"
                )


def _scalars(text: str) -> list[tuple[int, int]]:
    """Return where each scalar begins and ends."""
    return [
        (token.start_mark.index, token.end_mark.index)
        for token in yaml.scan(text)
        if isinstance(token, yaml.ScalarToken)
    ]


def _spellings(text: str) -> tuple[str, str]:
    """Return how a text is printed: by itself, and within a list of Python's that a template made of changed texts."""
    quoted = str(quote(text))
    return quoted, repr(quoted)[1:-1]


def _without_case(text: str) -> str:
    """Return what all spellings of the text in capitals and small letters have in common.

    Some letters become two ("ß", "SS").
    """
    return "".join(character.upper().casefold() for character in text)


def _starts_without_case(text: str) -> list[int]:
    """Return, for each character of `_without_case`, the index in the text of the character that it comes from."""
    return [index for index, character in enumerate(text) for _ in character.upper().casefold()]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _occurrences(text: str, literal: str) -> Iterator[int]:
    start = text.find(literal)
    while start >= 0:
        yield start
        start = text.find(literal, start + 1)


def _contained(text: str, scalars: list[tuple[int, int]], start: int, end: int) -> bool:
    """Return whether the range is part of one scalar, or of a comment."""
    number = bisect.bisect_right(scalars, (start, len(text))) - 1
    before = scalars[number] if number >= 0 else (0, 0)
    if before[0] <= start and end <= before[1]:
        return True
    return start >= before[1] and "#" in text[before[1] : start].rpartition("\n")[2]
