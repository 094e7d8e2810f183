"""Options made up from an endpoint's schema and template, to try a rendering with."""

import os
import pwd
from typing import Any

import jinja2
from jinja2 import meta

from twinlock_broker.config.folder import Folder
from twinlock_broker.identity import account
from twinlock_broker.identity.mapping import Match
from twinlock_broker.rendering import options as user_options
from twinlock_broker.rendering import rendered, template
from twinlock_broker.rendering.template import Reserved

_BY_TYPE: dict[str, Any] = {"string": "sample", "integer": 1, "number": 1.0, "boolean": True, "array": [], "object": {}}


def options(folder: Folder) -> dict[str, Any]:
    """A value for what the schema requires, and for what the template names and the schema doesn't forbid."""
    schema = folder.read_schema() or {}
    known: dict[str, Any] = schema.get("properties") or {}
    required = set(schema.get("required") or ())
    named = _named(folder.read_template()) if schema.get("additionalProperties", True) is not False else set()
    wanted = required | (named & known.keys() if known else named)
    return {name: _value(known.get(name)) for name in sorted(wanted)}


def render(folder: Folder, chosen: dict[str, Any]) -> None:
    """Do with the options what the broker does with a user's. Raises `CommandError`."""
    site, own = folder.read_site(), account.look_up(pwd.getpwuid(os.getuid()).pw_name)
    user_options.check(chosen, site.schema)
    reserved = Reserved(folder.parent_config, {}, own, Match(own.name), {"HOME": own.home, "USER": own.name})
    path = folder.template_path
    rendered.check(template.render(site.template, path.parent, chosen, reserved, str(path)))


def _named(text: str) -> set[str]:
    """The variables of a template that nothing in it sets."""
    try:
        found = meta.find_undeclared_variables(jinja2.Environment(autoescape=False).parse(text))  # noqa: S701
    except jinja2.TemplateSyntaxError:
        return set()  # the rendering says it better
    return found - set(user_options.RESERVED)


def _value(schema: Any) -> Any:
    """What one property may be: its default, else an example, else the first of a choice, else one by its type."""
    if not isinstance(schema, dict):
        return "sample"
    if schema.get("default") is not None:
        return schema["default"]
    for word in ("examples", "enum"):
        if schema.get(word):
            return schema[word][0]
    kind = schema.get("type", "string")
    number = schema.get("minimum", 1)
    return (
        number if kind in ("integer", "number") else _BY_TYPE.get(kind if isinstance(kind, str) else "string", "sample")
    )
