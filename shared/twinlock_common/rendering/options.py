"""Users' options, made harmless: their names and their values.

An option ends up in YAML and in shell text. So every text is written as a double-quoted scalar, which is the same in
JSON and in YAML: it can be nothing but a value. The same holds for a key of a mapping, unless it is a plain word.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from twinlock_common.rendering.errors import RenderingError
from twinlock_common.rendering.schema import check_options

RESERVED = ("_GC", "parent_config", "user_runtime", "mapped_identity")
"""Names that templates get from the broker; the last three are the agent's deprecated short forms."""

MAX_DEPTH = 20
"""How deep lists and mappings may be nested in an option."""

MAX_KEY = 512
"""Characters of a key of a mapping inside an option; YAML takes 1,024, quotes and escapes included."""

_NAME = re.compile(r"[^\W\d][\w.-]{0,127}")
_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,127}")
# What YAML 1.1 doesn't allow as it is, or takes for the end of a line; JSON's escape means the same in both.
_ESCAPE = re.compile(r"[\x7f-\xa0\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")


class Quoted(str):
    """A text in double quotes. Printed within a list of Python's, it gets no second pair."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


class QuotedList(list[Any]):
    """A list of encoded values. Printed whole, it is a flow sequence; Python's own form would quote a second time."""

    def __str__(self) -> str:
        return f"[{', '.join(map(str, self))}]"

    __repr__ = __str__


class QuotedMap(dict[str, Any]):
    """A mapping of encoded keys to encoded values. Printed whole, it is a flow mapping.

    Templates may look a key up as the user wrote it.
    """

    def __str__(self) -> str:
        return "{" + ", ".join(f"{_as_quoted(key)}: {value}" for key, value in self.items()) + "}"

    __repr__ = __str__

    def __contains__(self, key: object) -> bool:
        return super().__contains__(self._stored(key))

    def __missing__(self, key: object) -> Any:
        if key not in self:
            raise KeyError(key)
        return self[self._stored(key)]

    def get(self, key: Any, default: Any = None) -> Any:
        """Return the value of `key`, encoded or as the user wrote it; `default` if there is none."""
        return super().get(self._stored(key), default)

    def _stored(self, key: object) -> Any:
        return key if super().__contains__(key) else quote(str(key))


def check(options: Mapping[str, Any], schema: dict[str, Any] | None) -> None:
    """Raise `RenderingError` for a name that is reserved or not a plain word, and for what the schema refuses."""
    for name in options:
        if name in RESERVED:
            raise RenderingError(f"The option {name!r} is a reserved word: leave it out of user_endpoint_config")
        if not _NAME.fullmatch(name):
            raise RenderingError(
                f"The option {name[:60]!r} has an unusable name: letters, digits and _ - . make a name, "
                "and the first is a letter or _. Rename it in user_endpoint_config"
            )
    if schema is not None:
        check_options(options, schema)


def variables(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options for use in a template, under their own names. Raise `RenderingError`."""
    return {name: _encode(value, MAX_DEPTH - 1) for name, value in options.items()}


def encode(value: Any) -> Any:
    """Return `value` (of JSON) for use in a template. Raise `RenderingError`.

    Every text is quoted, and null becomes the text null.
    """
    return _encode(value, MAX_DEPTH)


def quote(text: str) -> Quoted:
    """Return `text` as a double-quoted scalar on one line, valid in JSON and in YAML."""
    quoted = _ESCAPE.sub(lambda match: f"\\u{ord(match[0]):04x}", json.dumps(text, ensure_ascii=False))
    return Quoted(quoted)


def _encode(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return _quote_checked(value)
    if value is None:
        return Quoted("null")
    if isinstance(value, bool | int | float):
        return value
    if depth == 0:
        raise RenderingError(f"The options are nested more than {MAX_DEPTH} deep. Flatten user_endpoint_config")
    if isinstance(value, list):
        return QuotedList(_encode(item, depth - 1) for item in value)
    return QuotedMap((_key(key), _encode(item, depth - 1)) for key, item in value.items())


def _quote_checked(text: str) -> Quoted:
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise RenderingError(f"The options hold a text that isn't valid Unicode: {text[:60]!r}")
    return quote(text)


def _key(key: str) -> str:
    """Return the key as it is if it is a plain word, as templates of the agent print it; else in quotes, as a value."""
    if _WORD.fullmatch(key):
        return key
    if not key.isprintable() or len(key) > MAX_KEY:
        raise RenderingError(
            f"The options hold a mapping with the unusable key {key[:60]!r}: at most {MAX_KEY} printable characters "
            "make a key. Rename it in user_endpoint_config"
        )
    return quote(key)


def _as_quoted(key: str) -> str:
    return key if isinstance(key, Quoted) else quote(key)
