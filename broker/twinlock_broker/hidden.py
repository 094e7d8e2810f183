"""Options and configurations without what looks secret in them, for people who look over an administrator's shoulder.

It is a guess by the names of keys: whoever may ask for a text may read its secrets elsewhere.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

import yaml

HIDDEN = "<secret>"
"""What stands in the place of a secret."""

_WORDS = "secret|token|passw|passphrase|credential|apikey|(?:access|api|private|secret|auth|account)[_-]?key"
_NAME = re.compile(_WORDS, re.IGNORECASE)
_LOGIN = re.compile(r"://[^\s/@]+@")
_SETTING = re.compile(rf"((?:{_WORDS})[\w-]{{0,80}}[=: ]\s*)(\"[^\"]*\"|'[^']*'|[^\s\"']+)", re.IGNORECASE)
_DEEPEST = 40


def is_secret(name: str) -> bool:
    """Return whether what has this name looks secret."""
    return _NAME.search(name) is not None


def hide(value: Any, depth: int = 0) -> Any:
    """Return a JSON value with `HIDDEN` for the values of keys that look secret, and in texts as `scrub` does."""
    if depth > _DEEPEST:
        return HIDDEN
    if isinstance(value, str):
        return scrub(value)
    if isinstance(value, dict):
        return {name: HIDDEN if is_secret(name) else hide(part, depth + 1) for name, part in value.items()}
    if isinstance(value, list):
        return [hide(part, depth + 1) for part in value]
    return value


def scrub(text: str) -> str:
    """Return a text with `HIDDEN` for logins in addresses, and for what is given to names that look secret."""
    return _SETTING.sub(rf"\1{HIDDEN}", _LOGIN.sub(f"://{HIDDEN}@", text))


def hide_in_yaml(text: str) -> str:
    """Return a YAML text with `HIDDEN` for the values of keys that look secret. Raise `ValueError` if it isn't YAML.

    It is read as events, in which an alias stays one: a few lines can name a structure of any size.
    """
    try:
        events = list(_hidden(yaml.parse(text, yaml.SafeLoader)))
        emitted: str = yaml.emit(events, width=110, allow_unicode=True)
    except yaml.YAMLError as error:
        raise ValueError(f"it isn't valid YAML: {type(error).__name__}") from error
    return emitted


def _hidden(events: Iterable[yaml.Event]) -> Iterator[yaml.Event]:
    """Yield the events of the shown text."""
    found = iter(events)
    inner: list[bool | None] = []  # of each open mapping, whether a key comes next; None for a sequence
    for event in found:
        if isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            inner.pop()
            yield event
            continue
        is_key = bool(inner) and inner[-1] is True
        _turn(inner)
        if isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            inner.append(True if isinstance(event, yaml.MappingStartEvent) else None)
            yield event
        elif isinstance(event, yaml.ScalarEvent):
            yield _scrubbed(event, is_key)
            if is_key and is_secret(event.value):
                _skip(found)
                _turn(inner)
                yield yaml.ScalarEvent(None, None, (True, True), HIDDEN)
        else:
            yield event


def _turn(inner: list[bool | None]) -> None:
    """Note that a key or a value has come in the innermost mapping, if it is one."""
    if inner and inner[-1] is not None:
        inner[-1] = not inner[-1]


def _skip(events: Iterator[yaml.Event]) -> None:
    """Take the events of one value."""
    depth = 0
    for event in events:
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth <= 0:
            return


def _scrubbed(event: yaml.ScalarEvent, is_key: bool) -> yaml.ScalarEvent:
    if is_key:
        return event
    return yaml.ScalarEvent(event.anchor, event.tag, event.implicit, scrub(event.value), style=event.style)
