"""Limits for texts that tasks make: people read the beginning and the end of an error, and queues have limits.

`traceback` copies the text of an exception several times and follows the whole chain behind it. So it only formats
small exceptions; large ones are formatted here, in the same form, with parts left out.
"""

import json
import traceback
from types import TracebackType
from typing import Any

LIMIT = 1 << 16
"""Characters of a text. The SDK prints a task's error as it is, and the official agent cuts nothing; this is room for
a traceback of 600 frames. As JSON it is 768 KiB at most (12 bytes a character), well below the smallest limit that
RabbitMQ has by default, 16 MiB."""

_WIDEST = 12  # bytes of a character in JSON, as two escapes
_EXCEPTIONS = 50
_ENDS = 4  # exceptions that are shown of each end of a long chain
_FRAMES = 1000
_SHOWN_FRAMES = 30  # of each end of a long traceback
_MEMBERS = 10  # exceptions of a group
_CAUSE = "\nThe above exception was the direct cause of the following exception:\n\n"
_CONTEXT = "\nDuring handling of the above exception, another exception occurred:\n\n"


def cut(text: str, limit: int = LIMIT) -> str:
    """Shorten a text of more than `limit` characters to its beginning and end, and say how many are left out."""
    if len(text) <= limit:
        return text
    tail = limit // 2
    return f"{text[: limit - tail]}\n[... {len(text) - limit:,} characters left out ...]\n{text[len(text) - tail :]}"


def encoded_size(text: str) -> int:
    """Count the bytes of a text in a message: JSON escapes quotes, backslashes and whatever isn't ASCII."""
    return len(json.dumps(text)) - 2


def too_long(text: str, limit: int) -> int:
    """Return the bytes of a text in a message if they are more than `limit`, else 0; quick for short texts."""
    if len(text) * _WIDEST <= limit:
        return 0
    size = len(text) if len(text) > limit else encoded_size(text)
    return size if size > limit else 0


def text_of(value: object) -> str:
    """Convert a value to text, also where its own code, which may be a user's, fails."""
    try:
        return str.__str__(str(value))  # not an instance of a subclass, whose methods are somebody's as well
    except BaseException:
        return f"<{_name(value)} without a text: its str() failed>"


def _name(value: object) -> str:
    name: str = type.__dict__["__name__"].__get__(type(value))  # past what a metaclass may do
    return name


def describe(error: BaseException, step: TracebackType | None, limit: int = LIMIT) -> str:
    """Format an exception, with the traceback from `step` on, as `traceback.format_exception` does, within `limit`.

    The text may be longer by the words about what is left out.
    """
    try:
        if _small(error):
            return cut("".join(traceback.format_exception(type(error), error, step)), limit)
        return cut(_abridged(error, step, limit), limit)
    except BaseException as trouble:  # the exception's own code, or no memory
        return cut(f"{_place(step)}{_name(error)}: <the exception can't be formatted: {_name(trouble)}>\n", limit)


def _place(step: TracebackType | None) -> str:
    try:
        return _frames(step)
    except BaseException:  # even the source text may come from a user's code
        return ""


def _small(error: BaseException) -> bool:
    """Return whether everything that would be shown of an exception is small."""
    seen: set[int] = set()
    waiting: list[BaseException] = [error]
    frames = characters = 0
    while waiting and len(seen) <= _EXCEPTIONS and frames <= _FRAMES and characters <= LIMIT:
        one = waiting.pop()
        if id(one) not in seen:
            seen.add(id(one))
            waiting += _related(one)
            frames += _depth(one.__traceback__)
            characters += len(text_of(one)) + sum(map(len, _notes(one)))
            characters += len(one.text or "") if isinstance(one, SyntaxError) else 0
    return not waiting and len(seen) <= _EXCEPTIONS and frames <= _FRAMES and characters <= LIMIT


def _related(error: BaseException) -> list[BaseException]:
    members = _members(error)
    return [other for other in (error.__cause__, error.__context__, *members[: _EXCEPTIONS + 1]) if other is not None]


def _members(error: BaseException) -> tuple[BaseException, ...]:
    """Return the exceptions in a group (Python 3.11 and later)."""
    found = getattr(error, "exceptions", ())
    return tuple(one for one in found if isinstance(one, BaseException)) if isinstance(found, tuple) else ()


def _notes(error: BaseException) -> list[str]:
    found = getattr(error, "__notes__", None)
    return [text_of(note) for note in found] if isinstance(found, list) else []


def _depth(step: TracebackType | None) -> int:
    depth = 0
    while step is not None:
        depth, step = depth + 1, step.tb_next
    return depth


def _abridged(error: BaseException, step: TracebackType | None, limit: int) -> str:
    chain = _chain(error)
    left_out = len(chain) - 2 * _ENDS
    shown = chain if left_out <= 0 else [*chain[:_ENDS], *chain[-_ENDS:]]
    each = limit // (2 * len(shown))  # the other half is for frames
    parts: list[str] = []
    for number, (one, link) in enumerate(shown):
        between = f"\n[... {left_out:,} exceptions left out ...]\n" if left_out > 0 and number == _ENDS else ""
        parts += [link if parts else "", between, _single(one, step if one is error else one.__traceback__, each)]
    return "".join(parts)


def _chain(error: BaseException) -> list[tuple[BaseException, str]]:
    """Return the exceptions in the order in which they are shown, each with the sentence that goes before it."""
    chain: list[tuple[BaseException, str]] = []
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        former = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
        chain.append((one, _CAUSE if one.__cause__ is not None else _CONTEXT))
        one = former
    return chain[::-1]


def _single(error: BaseException, step: TracebackType | None, limit: int) -> str:
    kind = type(error)
    prefix = "" if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}."
    name = f"{prefix}{kind.__qualname__}"
    text = cut(text_of(error), limit)
    lines = [f"{name}: {text}" if text else name, *(cut(note, limit) for note in _notes(error)[:_MEMBERS])]
    members = _members(error)
    lines += [f"  {number}: {_line(one)}" for number, one in enumerate(members[:_MEMBERS], start=1)]
    if len(members) > _MEMBERS:
        lines.append(f"  [... {len(members) - _MEMBERS:,} exceptions left out ...]")
    return _frames(step) + "\n".join(lines) + "\n"


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {cut(text_of(error), 1000)}"


def _frames(step: TracebackType | None) -> str:
    if step is None:
        return ""
    left_out = _depth(step) - 2 * _SHOWN_FRAMES
    told: list[Any] = traceback.format_tb(step, None if left_out <= 0 else _SHOWN_FRAMES)
    if left_out > 0:
        told += [f"  [... {left_out:,} frames left out ...]\n", *traceback.format_tb(step, -_SHOWN_FRAMES)]
    return "".join(["Traceback (most recent call last):\n", *told])
