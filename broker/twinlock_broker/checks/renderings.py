"""What the template makes of users' options, and what the endpoint's own loader says about that."""

import os
import pwd
from collections.abc import Iterator, Sequence
from typing import Any

from twinlock_common.rendering.configuration import Request
from twinlock_common.rendering.errors import RenderingError
from twinlock_common.rendering.reserved import Reserved

from twinlock_broker.checks import loader, variants
from twinlock_broker.checks.finding import Finding, Subject, failure, ok, patience, unknown
from twinlock_broker.checks.time_limit import time_limit
from twinlock_broker.checks.variants import Variant
from twinlock_broker.config.folder import Folder, Site
from twinlock_broker.errors import CommandError
from twinlock_broker.identity import account
from twinlock_broker.rendering.renderer import Renderer

LIMIT = 10.0
"""Seconds for finding options that fit the schema."""

_IDENTITY = "00000000-0000-0000-0000-000000000000"
_RUNTIME = {
    "globus_compute_sdk_version": "4.19.0",
    "globus_sdk_version": "4.0.0",
    "python_version": "3.11.2",
    "python": {
        "version": "3.11.2",
        "version_description": "3.11.2",
        "version_tuple": [3, 11, 2],
        "version_info": [3, 11, 2, "final", 0],
        "compiler": "GCC",
        "implementation": "CPython",
    },
    "platform": {
        "architecture": ["64bit", "ELF"],
        "machine": "x86_64",
        "node": "laptop",
        "platform": "Linux",
        "processor": "",
        "release": "6.1.0",
    },
}
"""`_GC.user_runtime` as the official SDK sends it (globus_compute_sdk/sdk/batch.py, `UserRuntime`)."""

Rendered = tuple[Variant, str]


def check(
    folder: Folder, given: dict[str, Any] | None, program: Sequence[str] | str, *, verified: bool = False
) -> Iterator[Finding]:
    """Check what the template of `folder` renders.

    Args:
        folder: the endpoint folder.
        given: options that are tried in place of samples, if there are any.
        program: the endpoint's argv, or a text that says why there is none.
        verified: it is rendered as an endpoint in verified mode does, without what only the broker could say.
    """
    try:
        with time_limit(LIMIT):
            chosen = variants.choose(folder, given)
    except TimeoutError:
        text = f"finding sample options took more than {LIMIT:.0f} s; simplify its patterns"
        yield failure(Subject.RENDERING, f"{folder.schema_path}: {text}")
        return
    except (CommandError, RenderingError) as error:
        yield failure(Subject.RENDERING, f"{folder.schema_path}: {error.detail or error.text}")
        return
    for name in chosen.unknown:
        yield unknown(Subject.RENDERING, f"the option {name!r}: no sample fits its schema; give options with --options")
    if not chosen.tried:
        yield unknown(
            Subject.RENDERING, f"{folder.template_path}: no sample options fit the schema; give options with --options"
        )
        return
    if chosen.more:
        yield unknown(Subject.RENDERING, f"{folder.template_path}: {chosen.more} more combinations of options")
    site = folder.read_site()
    with patience(f"rendering {folder.template_path} with {len(chosen.tried)} choices of options"):
        rendered, wrong = _render(folder, site, chosen.tried, verified)
    yield from _report(Subject.RENDERING, f"{folder.template_path}: renders", [each for each, _ in rendered], wrong)
    if rendered:
        yield from _load(folder, site, rendered, program)


def _render(
    folder: Folder, site: Site, tried: list[Variant], verified: bool
) -> tuple[list[Rendered], list[tuple[Variant, str]]]:
    """Return the configurations, and for the other variants why there is none."""
    rendered: list[Rendered] = []
    wrong: list[tuple[Variant, str]] = []
    renderer = Renderer()
    try:
        for variant in tried:
            try:
                rendered.append((variant, renderer.render(_request(folder, site, variant, verified))))
            except CommandError as error:
                if site.schema is not None or not error.text.startswith("The endpoint's template needs"):
                    wrong.append((variant, f"{error.text}{f' [{error.detail}]' if error.detail else ''}"))
                elif variant is tried[0]:
                    wrong.append((variant, error.text))
    finally:
        renderer.close()
    return rendered, wrong


def _request(folder: Folder, site: Site, variant: Variant, verified: bool) -> Request:
    """Return what broker or endpoint would ask for if the caller's account were the user's."""
    own = account.look_up(pwd.getpwuid(os.getuid()).pw_name)
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": own.home, "USER": own.name} | site.environment
    said = (None, None) if verified else (folder.parent_config, _IDENTITY)
    reserved = Reserved(said[0], _RUNTIME, own, said[1], environment)
    path = folder.template_path
    return Request(site.template, path.parent, site.schema, variant.options, reserved, str(path))


def _load(folder: Folder, site: Site, rendered: list[Rendered], program: Sequence[str] | str) -> Iterator[Finding]:
    if isinstance(program, str):
        yield unknown(Subject.ENDPOINT, program)
        return
    configs = [text for _, text in rendered]
    with patience(f"{program[0]} loads {len(configs)} configurations (at most {loader.LIMIT:.0f} s)"):
        answers = loader.ask(program, configs, site.environment, audited=bool(folder.settings["high_assurance"]))
    named = [(variant, answer) for (variant, _), answer in zip(rendered, answers, strict=True)]
    for reason in dict.fromkeys(answer.unknown for _, answer in named if answer.unknown):
        yield unknown(Subject.ENDPOINT, reason)
    good = [variant for variant, answer in named if answer == loader.Answer()]
    wrong = [(variant, answer.wrong) for variant, answer in named if answer.wrong]
    yield from _report(Subject.ENDPOINT, f"{program[0]}: accepts the configuration", good, wrong)


def _report(subject: Subject, what: str, good: list[Variant], wrong: list[tuple[Variant, str]]) -> Iterator[Finding]:
    """Yield one finding for all that is good, and one for each reason why something isn't."""
    if good:
        yield ok(subject, f"{what} {'; '.join(variant.name for variant in good)}")
    for reason in dict.fromkeys(text for _, text in wrong):
        names = [variant.name for variant, text in wrong if text == reason]
        more = f" (and {len(names) - 1} more)" if names[1:] else ""
        yield failure(subject, f"{names[0]}{more}: {reason}")
