"""What is odd in an identity mapping: it can be loaded, but does something else than its author is likely to expect.

Globus' mapping language knows ``. ? * | ( )`` and the backslash, far less than other regular expressions do. Its
library takes every other character as it stands, and looks for fields and groups only when somebody submits.
"""

import difflib
import re
import shutil
from collections.abc import Iterator
from typing import Any

from globus_identity_mapping.mappers.expression import ExpressionIdentityMapping

from twinlock_broker.identity.documents import listed

FIELDS = (
    "id",
    "sub",
    "username",
    "email",
    "name",
    "organization",
    "identity_provider",
    "identity_provider_display_name",
    "identity_type",
    "last_authentication",
    "status",
)
"""What the service tells of an identity (Globus Auth's identity set)."""

_EXPRESSION, _EXTERNAL = "expression_identity_mapping", "external_identity_mapping"
_KEYS = {_EXPRESSION: ("DATA_TYPE", "mappings"), _EXTERNAL: ("DATA_TYPE", "command")}
_MAPPING_KEYS = ("source", "match", "output", "ignore_case", "literal")
_LITERAL = re.compile(r"(?<!\\)[\[\]{}+^$]")
_SPECIAL = re.compile(r"[*?|()\\]")
_DOT_IN_A_NAME = re.compile(r"\w\.\w")
_REFERENCE = re.compile(r"(?<!\\)(?:\\\\)*\{([^}]*)\}")
_LANGUAGE = "in Globus' mapping language only . ? * | ( ) are special"


def oddities(mapping: object) -> list[str]:
    """Return a sentence for each oddity of a mapping file's content, with its place, the reason and the remedy.

    `mapping` is what JSON made of the file, of whatever type. An empty list says that nothing is odd; whether the file
    can be loaded is `Mapper`'s to say. Looks for the programs of external mappers on this host.
    """
    documents = listed(mapping)
    if not isinstance(documents, list):
        return [f"The file holds {_kind(documents)}, so it maps nobody: write a list of mappers, [{{...}}, ...]"]
    if not documents:
        return ["The list of mappers is empty, so it maps nobody: add a mapper"]
    return [text for number, document in enumerate(documents) for text in _of_mapper(f"Mapper {number}", document)]


def _of_mapper(place: str, document: Any) -> Iterator[str]:
    if not isinstance(document, dict):
        yield f'{place} is {_kind(document)}: write an object with "DATA_TYPE"'
        return
    kind = str(document.get("DATA_TYPE", "")).partition("#")[0]
    if kind not in _KEYS:
        known = " or ".join(f"{name}#1.0.0" for name in _KEYS)
        yield f'{place} has {_named("DATA_TYPE", document)}: write "DATA_TYPE": {known}'
        return
    yield from _unknown_keys(place, document, _KEYS[kind])
    wanted = _KEYS[kind][1]
    items = document.get(wanted)
    if not isinstance(items, list) or not items:
        yield f'{place} has {_named(wanted, document)}: write a list, "{wanted}": [...]'
    elif kind == _EXTERNAL:
        yield from _of_command(place, str(items[0]))
    else:
        for number, item in enumerate(items):
            yield from _of_mapping(f"{place}, mapping {number}", item)


def _of_command(place: str, program: str) -> Iterator[str]:
    if shutil.which(program) is None:
        yield f"{place} runs {program!r}, which isn't a program that can be run here: correct the path, or install it"


def _of_mapping(place: str, item: Any) -> Iterator[str]:
    if not isinstance(item, dict):
        yield f'{place} is {_kind(item)}: write an object with "source", "match" and "output"'
        return
    yield from _unknown_keys(place, item, _MAPPING_KEYS)
    yield from _of_flags(place, item)
    absent = [name for name in _MAPPING_KEYS[:3] if not isinstance(item.get(name), str)]
    for name in absent:
        yield f'{place} has {_named(name, item)}: write a text, "{name}": "..."'
    if absent:
        return
    yield from _of_source(place, item["source"])
    yield from _of_literal(place, item["match"]) if item.get("literal") else _of_match(place, item["match"])
    yield from _of_output(place, item)


def _of_flags(place: str, item: dict[str, Any]) -> Iterator[str]:
    for name in ("ignore_case", "literal"):
        if item.get(name) and not isinstance(item[name], bool):
            yield f"{place} has {_named(name, item)}, which counts as true whatever it says: write true or false"


def _of_source(place: str, source: str) -> Iterator[str]:
    names = _REFERENCE.findall(source)
    if not names:
        yield f'{place}: "source" {source!r} is the same for everybody: put a field in braces, such as {{username}}'
    yield from (_no_field(place, "source", name) for name in names if name not in FIELDS)


def _of_match(place: str, match: str) -> Iterator[str]:
    literal = sorted(set(_LITERAL.findall(match)))
    if literal:
        yield (
            f'{place}: {" ".join(literal)} in "match" {match!r} stand for themselves, {_LANGUAGE}: '
            "write . for any character and .* for any number of them"
        )
    if "(?" in match:
        yield f'{place}: "match" {match!r} has (?...), but {_LANGUAGE}: write (...), and {{0}} for it'
    if _has_open_choice(match):
        yield (
            f'{place}: "match" {match!r} has | outside of parentheses, so what stands beside it needn\'t fit the '
            "whole source, and others than you mean may be mapped: write (...|...)"
        )
    if _DOT_IN_A_NAME.search(re.sub(r"\\.", "", match)):
        yield f'{place}: the dot in "match" {match!r} fits any character: write \\\\. for a dot'


def _of_literal(place: str, match: str) -> Iterator[str]:
    special = sorted(set(_SPECIAL.findall(match)))
    if special:
        yield (
            f'{place}: {" ".join(special)} in "match" {match!r} stand for themselves because of "literal": '
            'write the text as it is, or remove "literal"'
        )


def _of_output(place: str, item: dict[str, Any]) -> Iterator[str]:
    try:
        [compiled] = ExpressionIdentityMapping([item]).mappings
    except Exception as error:  # the library lets anything through that a bad expression provokes
        yield f'{place}: "match" {item["match"]!r} is refused by Globus\' mapping language: {_last(error)}'
        return
    groups = compiled["compiled_match"].groups
    for name in _REFERENCE.findall(item["output"]):
        if not re.fullmatch(r"[+-]?\d+", name):
            if name not in FIELDS:
                yield _no_field(place, "output", name)
        elif not 0 <= int(name) < groups:
            yield (
                f'{place}: "output" has {{{name}}}, but "match" has {_groups(groups)}, counted from {{0}}: '
                "correct the number, or add parentheses"
            )


def _last(error: Exception) -> str:
    """Return the reason in an error of the library, whose other arguments repeat the expression."""
    return str(error.args[-1]) if error.args else type(error).__name__


def _has_open_choice(match: str) -> bool:
    """Return whether there is a | outside of all parentheses, where it splits off the expression's own ends."""
    depth = 0
    for character in re.sub(r"\\.", "", match):
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == "|" and depth == 0:
            return True
    return False


def _unknown_keys(place: str, found: dict[Any, Any], known: tuple[str, ...]) -> Iterator[str]:
    for name in found:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
            remedy = f'write "{near[0]}"' if near else "remove it"
            yield f"{place} has the key {name!r}, which nothing reads: {remedy}"


def _no_field(place: str, key: str, name: str) -> str:
    if key == "source" and name.isdigit():
        return f'{place}: "source" has {{{name}}}, but groups are for "output" only: name a field, such as {{username}}'
    near = difflib.get_close_matches(name, FIELDS, n=1)
    remedy = f"write {{{near[0]}}}" if near else f"identities have {', '.join(FIELDS)}"
    return f'{place}: "{key}" has {{{name}}}, which no identity has, so the whole mapper fails: {remedy}'


def _groups(count: int) -> str:
    return {0: "no group", 1: "one group"}.get(count, f"{count} groups")


def _named(key: str, found: dict[Any, Any]) -> str:
    """Return the state of a key that is not as it should be."""
    if key not in found:
        return f'no "{key}"'
    value = found[key]
    return f'"{key}": {value!r}' if isinstance(value, str) else f'{_kind(value)} as "{key}"'


def _kind(value: object) -> str:
    """Return what a value is in JSON's terms."""
    if value == []:
        return "an empty list"
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
