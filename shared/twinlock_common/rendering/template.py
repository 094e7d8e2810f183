"""The rendering of the administrator's template with a user's options to the endpoint's YAML configuration."""

import json
import re
import shlex
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from jinja2.sandbox import SandboxedEnvironment

from twinlock_common.rendering import options
from twinlock_common.rendering.errors import RenderingError
from twinlock_common.rendering.faults import Source
from twinlock_common.rendering.reserved import Reserved

DEFAULT_NAME = "user_config_template.yaml.j2"
"""How a template is named in errors if nothing else is known."""

MAX_RENDERED = 65536 - 256
"""Bytes of a rendered configuration, as JSON: the agent's manager writes the whole document into a pipe of 64 KiB."""

MAX_SECONDS = 5.0
"""Seconds that one rendering may take."""

_FAILURES = (ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError)
_UNDEFINED = re.compile(r"'(\w+)' is undefined")
_UNKNOWN_IF_VERIFIED = re.compile(r"(?:'dict object' has no attribute )?'(parent_config|globus)'(?: is undefined)?")
_OUR_TYPES = {
    r"'?(twinlock_common\.rendering\.options\.)?\bQuotedMap\b( object)?'?": "a mapping",
    r"'?(twinlock_common\.rendering\.options\.)?\bQuotedList\b( object)?'?": "a list",
    r"'?(twinlock_common\.rendering\.options\.)?\bQuoted\b( object)?'?": "a text",
}
"""How Jinja and Python name the types of options."""


def render(template: str, folder: Path, chosen: Mapping[str, Any], reserved: Reserved, name: str = DEFAULT_NAME) -> str:
    """Return the YAML text. Raise `RenderingError`, whose detail has the file, the line and its text. Blocks.

    `folder` is where include, extends and import look; `name` is how the template is named in the detail.
    """
    variables = options.variables(chosen) | reserved.variables()
    source = Source(name, template, folder)
    try:
        return _generate(_compile(source), variables)
    except jinja2.UndefinedError as error:
        raise RenderingError(_undefined(error, reserved), source.fault(error)) from error
    except (jinja2.TemplateSyntaxError, jinja2.TemplateNotFound, OSError, UnicodeDecodeError) as error:
        raise RenderingError(
            "The endpoint's template has an error. Tell the endpoint's administrator", source.fault(error)
        ) from error
    except (jinja2.TemplateError, *_FAILURES) as error:
        if "StrictUndefined" in str(error):  # a filter, such as tojson, that knows nothing of missing options
            text = "The endpoint's template needs an option that wasn't passed. Check user_endpoint_config"
            raise RenderingError(text, source.fault(error)) from error
        reason = _for_people(str(error)[:300])
        text = f"The endpoint's template fails with these options: {type(error).__name__}: {reason}"
        raise RenderingError(f"{text}. Check user_endpoint_config", source.fault(error)) from error


def shell_escape(value: Any) -> Any:
    """Return a text as one word of a shell command, then as a YAML scalar. Return other values as they are.

    Templates get it as a filter.
    """
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
        size += len(json.dumps(piece[: MAX_RENDERED + 1])) - len('""')  # a longer piece is too long in any case
        if size > MAX_RENDERED:
            raise RenderingError(f"The configuration got longer than {MAX_RENDERED} bytes; shorten the options")
        if time.monotonic() > deadline:
            raise RenderingError(
                f"Rendering the configuration took over {MAX_SECONDS:.0f} seconds; shorten the options"
            )
    return "".join(pieces)


def _undefined(error: jinja2.UndefinedError, reserved: Reserved) -> str:
    unknown = _UNKNOWN_IF_VERIFIED.fullmatch(error.message or "") if reserved.parent_config is None else None
    if unknown:
        return (
            f"The endpoint's template uses {unknown[1]!r}, which isn't known in verified mode, since only the manager "
            "endpoint says it. Tell the endpoint's administrator"
        )
    name = _UNDEFINED.fullmatch(error.message or "")
    if name:
        return f"The endpoint's template needs the option {name[1]!r}: pass it in user_endpoint_config"
    reason = _for_people(str(error))
    return f"The endpoint's template needs a value that is missing: {reason}. Check user_endpoint_config"


def _for_people(reason: str) -> str:
    """Return a reason of Jinja's or Python's, with plain words for our own types of values."""
    for pattern, word in _OUR_TYPES.items():
        reason = re.sub(pattern, word, reason)
    return reason
