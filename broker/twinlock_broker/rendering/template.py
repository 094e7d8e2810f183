"""The administrator's template and a user's options, rendered to the endpoint's YAML configuration."""

import json
import re
import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import jinja2
from jinja2.sandbox import SandboxedEnvironment

from twinlock_broker.errors import CommandError
from twinlock_broker.identity.account import Account
from twinlock_broker.identity.mapping import Match
from twinlock_broker.rendering import options
from twinlock_broker.rendering.faults import Source

DEFAULT_NAME = "user_config_template.yaml.j2"
"""How a template is named in errors, where nothing else is known."""

MAX_RENDERED = 65536 - 256
"""Characters of a rendered configuration: the peer's endpoint takes its whole document through a pipe of 64 KiB."""

MAX_SECONDS = 5.0
"""Seconds that one rendering may take."""

_FAILURES = (ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError)
_UNDEFINED = re.compile(r"'(\w+)' is undefined")
_OUR_TYPES = {
    r"'?(twinlock_broker\.rendering\.options\.)?\bQuotedMap\b( object)?'?": "a mapping",
    r"'?(twinlock_broker\.rendering\.options\.)?\bQuotedList\b( object)?'?": "a list",
    r"'?(twinlock_broker\.rendering\.options\.)?\bQuoted\b( object)?'?": "a text",
}
"""How Jinja and Python name the types of options."""


@dataclass(frozen=True, slots=True)
class Reserved:
    """What a template finds under `_GC`. `environment` is the user endpoint's own, as far as it is known here."""

    parent_config: Mapping[str, Any]
    runtime: Mapping[str, Any]
    account: Account
    match: Match
    environment: Mapping[str, str]

    def variables(self) -> dict[str, Any]:
        """The variables under the peer's names: all in `_GC`, three of them also bare, as the peer still has them."""
        values = {
            "parent_config": {key: _of_parent(key, value) for key, value in self.parent_config.items()},
            "user_runtime": options.encode(dict(self.runtime)),
            "mapped_identity": {"local": _local(self.account), "globus": {"id": self.match.identity}},
        }
        return values | {"_GC": values | {"env": dict(self.environment)}}


def render(template: str, folder: Path, chosen: Mapping[str, Any], reserved: Reserved, name: str = DEFAULT_NAME) -> str:
    """The YAML text. Raises `CommandError`, whose detail has the file, the line and its text. Blocks.

    `folder` is where include, extends and import look; `name` is how the template is named in the detail.
    """
    variables = options.variables(chosen) | reserved.variables()
    source = Source(name, template, folder)
    try:
        return _generate(_compile(source), variables)
    except jinja2.UndefinedError as error:
        raise CommandError(_undefined(error), source.fault(error)) from error
    except (jinja2.TemplateSyntaxError, jinja2.TemplateNotFound, OSError, UnicodeDecodeError) as error:
        raise CommandError(
            "The endpoint's template has an error. Tell the endpoint's administrator", source.fault(error)
        ) from error
    except (jinja2.TemplateError, *_FAILURES) as error:
        if "StrictUndefined" in str(error):  # a filter, such as tojson, that knows nothing of missing options
            text = "The endpoint's template needs an option that wasn't passed. Check user_endpoint_config"
            raise CommandError(text, source.fault(error)) from error
        reason = _for_people(str(error)[:300])
        text = f"The endpoint's template fails with these options: {type(error).__name__}: {reason}"
        raise CommandError(f"{text}. Check user_endpoint_config", source.fault(error)) from error


def shell_escape(value: Any) -> Any:
    """The filter: a text as one word of a shell command, then as a YAML scalar. Other values are left as they are."""
    if not isinstance(value, str):
        return value
    try:
        text = json.loads(value)  # an option arrives quoted
    except ValueError:
        text = value  # the template's own text, or one that it put together
    return options.quote(shlex.quote(text)) if isinstance(text, str) else value


def _compile(source: Source) -> jinja2.Template:
    loader = jinja2.FileSystemLoader(source.folder)
    environment = SandboxedEnvironment(undefined=jinja2.StrictUndefined, loader=loader)
    environment.filters["shell_escape"] = shell_escape
    code = environment.compile(source.text, filename=source.name)
    return environment.template_class.from_code(environment, code, environment.make_globals(None))


def _generate(template: jinja2.Template, variables: dict[str, Any]) -> str:
    pieces, size, deadline = [], 0, time.monotonic() + MAX_SECONDS
    for piece in template.generate(variables):
        pieces.append(piece)
        size += len(piece)
        if size > MAX_RENDERED:
            raise CommandError(f"The configuration got longer than {MAX_RENDERED} characters; shorten the options")
        if time.monotonic() > deadline:
            raise CommandError(f"Rendering the configuration took over {MAX_SECONDS:.0f} seconds; shorten the options")
    return "".join(pieces)


def _undefined(error: jinja2.UndefinedError) -> str:
    name = _UNDEFINED.fullmatch(error.message or "")
    if name:
        return f"The endpoint's template needs the option {name[1]!r}: pass it in user_endpoint_config"
    reason = _for_people(str(error))
    return f"The endpoint's template needs a value that is missing: {reason}. Check user_endpoint_config"


def _for_people(reason: str) -> str:
    """A reason of Jinja's or Python's, with plain words for our own types of values."""
    for pattern, word in _OUR_TYPES.items():
        reason = re.sub(pattern, word, reason)
    return reason


def _local(account: Account) -> dict[str, Any]:
    return {
        "uname": account.name,
        "uid": account.uid,
        "gid": account.gid,
        "groups": list(account.groups),
        "gecos": "".join(character for character in account.gecos if character.isprintable()),  # users may set it
        "shell": account.shell,
        "dir": account.home,
    }


def _of_parent(key: str, value: Any) -> Any:
    """Paths are paths, as with the peer, of which templates may ask the name or the parent; but none to open."""
    return PurePosixPath(value) if value and key.endswith("_path") else value
