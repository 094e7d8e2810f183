"""Texts of others on their way to the user's terminal."""

import unicodedata

_REMOVED = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode's categories of what a terminal acts upon or turns around, of halves of pairs, and of unusual line ends."""


def lines(text: str) -> str:
    """Return the text without control characters, but with its lines and tabs."""
    return "".join(mark for mark in text if mark in "\n\t" or unicodedata.category(mark) not in _REMOVED)


def line(text: str) -> str:
    """Return the text as one line without control characters."""
    return " ".join(lines(text).split())
