"""Sample values that a JSON schema allows. They are guessed, and the schema itself has the last word about them."""

import math
import re
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any
from urllib.parse import unquote

import jsonschema

_DEPTH = 8
_MOST = 1000  # characters, or items of a list, that are repeated for a sample
_PARSER = import_module("re._parser")  # the standard library's own; its public name, sre_parse, is deprecated
_TEXTS = ("sample", "1", "01:00:00", "2026-01-01", "user@site.example", "7b1f2f6e-0000-4000-8000-000000000001", "/tmp")  # noqa: S108
_NUMBERS = (1, 2, 0, 10, 100, -1, 0.5)
_CATEGORIES = {"DIGIT": "1", "NOT_DIGIT": "a", "SPACE": " ", "NOT_SPACE": "a", "WORD": "a", "NOT_WORD": "-"}


class NoSample(Exception):
    """No value was found that the schema allows."""


def value(schema: Any, root: Mapping[str, Any]) -> Any:
    """Return a value for `schema`, a part of the schema `root`. Raise `NoSample`."""
    found = _valid(schema, root, _DEPTH)
    try:
        return next(found)
    except StopIteration:
        raise NoSample from None


def _valid(schema: Any, root: Mapping[str, Any], depth: int) -> Iterator[Any]:
    validator = jsonschema.validators.validator_for(root)(root).evolve(schema=schema)
    return (candidate for candidate in _candidates(schema, root, depth) if validator.is_valid(candidate))


def _candidates(schema: Any, root: Mapping[str, Any], depth: int) -> Iterator[Any]:
    """Yield values that may do, the best first: the default, an example, a choice, then one by its type."""
    if not isinstance(schema, dict):
        yield "sample"
        return
    if schema.get("default") is not None:
        yield schema["default"]
    for word in ("examples", "enum"):
        yield from schema.get(word) or ()
    if "const" in schema:
        yield schema["const"]
    if depth:
        yield from _of_parts(schema, root, depth - 1)
    numeric = any(word in schema for word in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"))
    kinds = schema.get("type", ["number"] if numeric else ["string", "integer", "boolean", "array", "object"])
    for kind in [kinds] if isinstance(kinds, str) else kinds:
        yield from _of_type(kind, schema, root, depth)


def _of_parts(schema: dict[str, Any], root: Mapping[str, Any], depth: int) -> Iterator[Any]:
    """Yield the candidates of the schemas that this one refers to."""
    if "$ref" in schema:
        yield from _candidates(_referred(schema["$ref"], root), root, depth)
    for word in ("anyOf", "oneOf", "allOf"):
        for part in schema.get(word) or ():
            yield from _candidates(part, root, depth)


def _of_type(kind: str, schema: dict[str, Any], root: Mapping[str, Any], depth: int) -> Iterator[Any]:
    if kind == "string":
        yield from _texts(schema)
    elif kind in ("integer", "number"):
        yield from _numbers(schema)
    elif kind == "boolean":
        yield from (True, False)
    elif kind == "null":
        yield None
    elif kind == "array":
        yield from (_items(schema, root, depth), [])
    elif kind == "object":
        known = schema.get("properties") or {}
        yield {name: _first(known.get(name, {}), root, depth) for name in schema.get("required") or ()}


def _items(schema: dict[str, Any], root: Mapping[str, Any], depth: int) -> list[Any]:
    """Return as many items as there have to be.

    The first ones may have schemas of their own; before version 2020-12 these stood in `items`.
    """
    rest = schema.get("items", {})
    heads = rest if isinstance(rest, list) else schema.get("prefixItems") or []
    each = _first(schema.get("additionalItems", {}) if isinstance(rest, list) else rest, root, depth)
    least = min(schema.get("minItems", 0), _MOST)
    return [_first(head, root, depth) for head in heads[:least]] + [each] * (least - len(heads))


def _first(schema: Any, root: Mapping[str, Any], depth: int) -> Any:
    """Return the first candidate that will do, for a part of an array or object."""
    return next(_valid(schema, root, depth - 1), "sample") if depth else "sample"


def _referred(reference: str, root: Mapping[str, Any]) -> Any:
    """Return the part of `root` that a JSON pointer (RFC 6901) such as ``#/$defs/name`` means; an empty one if none."""
    part: Any = root
    for word in unquote(reference).removeprefix("#/").split("/"):
        name = word.replace("~1", "/").replace("~0", "~")
        part = part.get(name, {}) if isinstance(part, dict) else {}
    return part


def _numbers(schema: dict[str, Any]) -> Iterator[float]:
    least, most = schema.get("minimum"), schema.get("maximum")
    yield from (number for number in (least, most, schema.get("multipleOf")) if number is not None)
    if "exclusiveMinimum" in schema:
        yield schema["exclusiveMinimum"] + 1
    if "exclusiveMaximum" in schema:
        yield schema["exclusiveMaximum"] - 1
    if least is not None and schema.get("multipleOf"):
        yield math.ceil(least / schema["multipleOf"]) * schema["multipleOf"]
    yield from _NUMBERS


def _texts(schema: dict[str, Any]) -> Iterator[str]:
    least, most = min(schema.get("minLength", 0), _MOST), schema.get("maxLength")
    yield from (text.ljust(least, "x")[:most] for text in _TEXTS)
    if "pattern" in schema:
        yield _matching(schema["pattern"])


def _matching(pattern: str) -> str:
    """Return a text that fits a regular expression, as far as that is made of usual parts."""
    try:
        return "".join(_spell(part) for part in _PARSER.parse(pattern))
    except (re.error, ValueError, TypeError, RecursionError, OverflowError):
        return ""


def _spell(part: tuple[Any, Any]) -> str:
    """Return a text for one part of a parsed expression, see the module `re._parser`."""
    code, argument = part
    match str(code):
        case "LITERAL":
            return chr(argument)
        case "IN":
            return _spell_set(argument)
        case "ANY":
            return "a"
        case "NOT_LITERAL":
            return "b" if argument == ord("a") else "a"
        case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
            least, most, inner = argument
            return "".join(_spell(each) for each in inner) * min(int(max(least, min(1, most))), _MOST)
        case "SUBPATTERN":
            return "".join(_spell(each) for each in argument[-1])
        case "BRANCH":
            return "".join(_spell(each) for each in argument[1][0])
    return ""


def _spell_set(members: Any) -> str:
    """Return a character of a set in brackets."""
    code, argument = members[0]
    match str(code):
        case "LITERAL":
            return chr(argument)
        case "RANGE":
            return chr(argument[0])
        case "CATEGORY":
            return _CATEGORIES.get(str(argument).removeprefix("CATEGORY_"), "a")
        case "NEGATE":
            excluded = [each[1] for each in members[1:] if str(each[0]) == "LITERAL"]
            return next((text for text in "a0-x" if ord(text) not in excluded), "")
    return ""
