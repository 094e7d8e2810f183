"""What a rendered configuration has to be before a process is started for it."""

from typing import Any

import yaml

from twinlock_broker.errors import CommandError


def check(text: str) -> None:
    """Raise `CommandError` unless `text` is a YAML mapping that has an `engine` with a `type`."""
    config = _load(text)
    if not isinstance(config, dict):
        raise CommandError(_bad("isn't a YAML mapping"))
    if "high_assurance" in config:
        raise CommandError(_bad("sets high_assurance, which belongs into the manager's config.yaml"))
    engine = config.get("engine")
    if not isinstance(engine, dict):
        raise CommandError(_bad("has no engine"))
    if not isinstance(engine.get("type"), str):
        raise CommandError(_bad("has an engine without a type"))


def _load(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f" in line {mark.line + 1}" if mark else ""
        raise CommandError(_bad(f"isn't valid YAML{line}: {error.problem or error.context}")) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise CommandError(_bad(f"isn't valid YAML: {str(error)[:200]}")) from error


def _bad(reason: str) -> str:
    return (
        f"The configuration rendered from the endpoint's template {reason}. Check user_endpoint_config; "
        "where that is right, tell the endpoint's administrator"
    )
