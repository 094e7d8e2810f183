"""Statements: what is signed, as JSON in printable ASCII. The bytes that were signed are the bytes that are sent.

There is no canonical form, since nobody writes a statement again. But there is one way to read it: a key that is
unknown, missing, or in an object twice is refused, and so is a number that JSON doesn't have.
"""

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from twinlock_signed.errors import Refused

_PRINTABLE = re.compile(rb"[ -~]*")

_LATEST = 1 << 40
"""Seconds since 1970 that a time may be at most; with those a date still has five digits for its year."""

_DEEPEST = 100
"""Lists and objects inside of each other. Deeper ones might be read by one program and be too deep for the next."""


class Form(NamedTuple):
    """The form of a field: how it is described to people, and whether a value has it."""

    words: str
    accepts: Callable[[Any], bool]


def _text_of(pattern: str) -> Callable[[Any], bool]:
    return lambda value: type(value) is str and re.fullmatch(pattern, value) is not None


def _are_texts(value: Any) -> bool:
    return type(value) is list and all(type(text) is str for text in value)


def hexadecimal(digits: int) -> Form:
    """Return the form of so many hexadecimal digits. They are small, so that each value has one form."""
    return Form(f"{digits} hexadecimal digits in small letters", _text_of(f"[0-9a-f]{{{digits}}}"))


TEXT = Form("a text", lambda value: type(value) is str)
TEXTS = Form("a list of texts", _are_texts)
OBJECT = Form("an object", lambda value: type(value) is dict)
FLAG = Form("true or false", lambda value: type(value) is bool)
NUMBER = Form("a whole number from 0 to 2^53", lambda value: type(value) is int and 0 <= value <= 1 << 53)
TIME = Form("a time in whole seconds since 1970", lambda value: type(value) is int and 0 <= value < _LATEST)
UUID = Form("a uuid in small letters", _text_of("[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}"))
SHA256 = hexadecimal(64)
ED25519 = hexadecimal(64)


def encode(fields: Mapping[str, Any]) -> bytes:
    """Return the statement with these fields. Raise `ValueError` for what JSON can't say."""
    return _ENCODER.encode(fields).encode("ascii")


def write_flat(what: str, fields: Mapping[str, Any], most: int, forms: Mapping[str, Form]) -> bytes:
    """Return the statement with these fields, of which none holds others.

    Raise `Refused` if `decode` would refuse the statement; it isn't read again to see that.
    """
    _check_fields(what, fields, forms)
    statement = encode(fields)
    check_size(what, statement, most)
    _check_encodable(what, statement, fields)
    return statement


def decode(what: str, data: bytes, most: int, forms: Mapping[str, Form]) -> dict[str, Any]:
    """Return the fields of a statement.

    Args:
        what: the statement's name, for errors.
        data: the statement.
        most: bytes that it may have.
        forms: each field with its form; all have to be there.

    Raises:
        Refused: it isn't exactly that.
    """
    check_size(what, data, most)
    if not _PRINTABLE.fullmatch(data):
        raise Refused(f"The {what} has bytes that aren't printable ASCII; {_RENEW}")
    try:
        fields = _DECODER.decode(data.decode("ascii"))
    except (ValueError, RecursionError) as error:
        raise Refused(f"The {what} is not strict JSON ({error}); {_RENEW}") from None
    if type(fields) is not dict:
        raise Refused(f"The {what} is not a JSON object; {_RENEW}")
    _check_encodable(what, data, fields)
    _check_depth(what, data, fields)
    _check_fields(what, fields, forms)
    return fields


def check_size(what: str, data: bytes | str, most: int) -> None:
    """Raise `Refused` if a statement, or the ASCII text that it travels in, has more bytes than it may."""
    if len(data) > most:
        raise Refused(f"The {what} has {len(data)} bytes, and may have {most}; send less")


def digest(statement: bytes) -> str:
    """Return the SHA-256 of a statement, in hexadecimal digits: by this others name it."""
    return hashlib.sha256(statement).hexdigest()


_RENEW = "use a current version of twinlock-client"


def _check_fields(what: str, fields: Mapping[str, Any], forms: Mapping[str, Form]) -> None:
    for name in fields:
        if name not in forms:
            raise Refused(f"The {what} has an unknown field {name[:40]!r}; {_RENEW}")
    for name, form in forms.items():
        if name not in fields:
            raise Refused(f"The {what} has no field {name!r}; {_RENEW}")
        if not form.accepts(fields[name]):
            raise Refused(f"In the {what}, {name!r} is not {form.words}; {_RENEW}")


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice[:40]!r} stands twice in an object")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number of JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError("a number is too large")
    return value


def _whole(digits: str) -> int:
    if len(digits) > 20:  # the sign and a number of 64 bits
        raise ValueError("a whole number is too large")
    return int(digits)


_ENCODER = json.JSONEncoder(allow_nan=False, separators=(",", ":"))
_DECODER = json.JSONDecoder(
    object_pairs_hook=_each_once, parse_constant=_no_constant, parse_float=_finite, parse_int=_whole
)


def _check_encodable(what: str, data: bytes, fields: Any) -> None:
    """Raise `Refused` for half a surrogate pair, which no text in UTF-8 can hold."""
    if rb"\ud" not in data and rb"\uD" not in data:
        return
    try:
        json.dumps(fields, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise Refused(f"The {what} is not strict JSON ({error}); {_RENEW}") from None


def _check_depth(what: str, data: bytes, fields: Any) -> None:
    if data.count(b"[") + data.count(b"{") <= _DEEPEST:
        return  # there aren't so many
    level = [fields]
    for _ in range(_DEEPEST + 1):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return
    raise Refused(f"The {what} has over {_DEEPEST} lists and objects inside of each other; use fewer")


def _inside(value: Any) -> Iterable[Any]:
    if type(value) is dict:
        return value.values()
    return value if type(value) is list else ()
