"""The options that a template is tried with: samples of what the schema allows, and each option left out."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jinja2
from jinja2 import meta
from twinlock_common.rendering import options as user_options
from twinlock_common.rendering.errors import RenderingError
from twinlock_common.rendering.schema import applied

from twinlock_broker.checks import sampling
from twinlock_broker.config.folder import Folder

MOST = 200
"""Renderings of a template; a schema with more choices is tried in part."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A user's options."""

    name: str
    """For people, such as `without 'partition'`."""
    options: Mapping[str, Any]
    """As the user would pass them in `user_endpoint_config`."""


@dataclass(frozen=True, slots=True)
class Variants:
    """What a template is tried with."""

    tried: list[Variant]
    """At most `MOST`; none if no sample fits the schema."""
    more: int
    """The number of those beyond `MOST`, which aren't tried."""
    unknown: list[str]
    """Names of options for which there is no sample."""


def choose(folder: Folder, given: dict[str, Any] | None) -> Variants:
    """Return the variants for the template and the schema of `folder`, from the options `given` if there are some.

    Raises:
        CommandError: the schema or the template can't be read.
        RenderingError: the schema can't be used.
    """
    schema = folder.read_schema() or {}
    samples = _samples(schema, _named(folder.read_template()))
    unknown = [name for name, value in samples.items() if value is None]
    base = _base(schema, {name: value[0] for name, value in samples.items() if value}) if given is None else given
    if base is None:
        return Variants([], 0, unknown)
    found = [Variant(f"with the options {base}", base), *_without_one(schema, base), *_other_choices(schema, base)]
    return Variants(found[:MOST], len(found) - len(found[:MOST]), unknown)


def fits(schema: dict[str, Any], options: Mapping[str, Any]) -> bool:
    """Return whether the broker would accept the options. Raise `RenderingError` if the schema itself is wrong."""
    try:
        user_options.check(options, schema)
    except RenderingError as error:
        if error.detail:
            raise
        return False
    return True


def _named(text: str) -> set[str]:
    """Return the variables of a template that nothing in it sets."""
    try:
        found = meta.find_undeclared_variables(jinja2.Environment(autoescape=False).parse(text))  # noqa: S701
    except jinja2.TemplateSyntaxError:
        return set()  # the rendering reports it, with its place
    return found - set(user_options.RESERVED)


def _samples(schema: dict[str, Any], named: set[str]) -> dict[str, list[Any] | None]:
    """Return, by option, a list with its sample, or None if there is none."""
    known = _properties(schema)
    free = set() if known or schema.get("additionalProperties", True) is False else named
    return {name: _sample(known.get(name, {}), schema) for name in sorted({*known, *_required(schema), *free})}


def _sample(part: Any, schema: dict[str, Any]) -> list[Any] | None:
    try:
        with applied():
            return [sampling.value(part, schema)]
    except sampling.NoSample:
        return None


def _base(schema: dict[str, Any], samples: dict[str, Any]) -> dict[str, Any] | None:
    """Return all samples together, else only those that are required; None if the schema accepts neither."""
    required = {name: value for name, value in samples.items() if name in _required(schema)}
    return next((chosen for chosen in (samples, required) if fits(schema, chosen)), None)


def _without_one(schema: dict[str, Any], base: dict[str, Any]) -> Iterator[Variant]:
    for name in base:
        options = {other: value for other, value in base.items() if other != name}
        if fits(schema, options):
            yield Variant(f"without {name!r}", options)


def _other_choices(schema: dict[str, Any], base: dict[str, Any]) -> Iterator[Variant]:
    for name, part in _properties(schema).items():
        for choice in _choices(part):
            options = base | {name: choice}
            if (name not in base or base[name] != choice) and fits(schema, options):
                yield Variant(f"with {name}={choice!r}", options)


def _choices(part: Any) -> list[Any]:
    if not isinstance(part, dict):
        return []
    return [True, False] if part.get("type") == "boolean" else list(part.get("enum") or [])


def _properties(schema: dict[str, Any]) -> dict[str, Any]:
    found = schema.get("properties")
    return found if isinstance(found, dict) else {}  # an unknown version of JSON schema may mean something else


def _required(schema: dict[str, Any]) -> list[str]:
    found = schema.get("required")
    return found if isinstance(found, list) else []  # in draft 3 it is true or false
