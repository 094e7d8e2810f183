"""Texts of others on their way to the user's terminal."""

import unicodedata

_REMOVED = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode's categories of what a terminal acts upon or turns around, of halves of pairs, and of unusual line ends."""

_MOST = 1 << 17
"""Characters of a text that is shortened. Endpoints send half of that about an error."""


def shortened(text: str) -> str:
    """Return the beginning and the end of a long text, and between them how much is left out."""
    if len(text) <= _MOST:
        return text
    half = _MOST // 2
    return f"{text[:half]}\n[... {len(text) - _MOST:,} characters left out ...]\n{text[-half:]}"


def lines(text: str) -> str:
    """Return the text without control characters, but with its lines and tabs."""
    return "".join(mark for mark in text if mark in "\n\t" or unicodedata.category(mark) not in _REMOVED)


def line(text: str) -> str:
    """Return the text as one line without control characters."""
    return " ".join(lines(text).split())
