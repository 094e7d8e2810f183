"""The steps from options to a configuration, in the order that the checks need."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twinlock_common.rendering import containment, options, validate
from twinlock_common.rendering.reserved import Reserved
from twinlock_common.rendering.template import DEFAULT_NAME, render


@dataclass(frozen=True, slots=True)
class Request:
    """A template with what it is rendered for."""

    template: str
    """The template's text."""
    folder: Path
    """Where include, extends and import look."""
    schema: dict[str, Any] | None
    """The site's schema for options; None if there is none."""
    options: Mapping[str, Any]
    """The user's options."""
    reserved: Reserved
    """The variables that the template gets besides."""
    name: str = DEFAULT_NAME
    """How the template is named to the administrator."""


def configure(request: Request) -> str:
    """Return the checked YAML text. Raise `RenderingError`. Blocks for as long as the template's loops run."""
    options.check(request.options, request.schema)
    text = render(request.template, request.folder, request.options, request.reserved, request.name)
    # This comes before `validate`, which would report a key that an option has brought in as the template's fault. The
    # runtime is checked as well, since a client may put anything into it.
    containment.check(text, {**request.options, "user_runtime": dict(request.reserved.runtime)})
    validate.check(text)
    return text
