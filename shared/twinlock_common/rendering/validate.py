"""The checks of a rendered configuration before a process is started for it."""

from typing import Any

from twinlock_common.rendering.errors import RenderingError
from twinlock_common.site_files import load_yaml


def check(text: str) -> None:
    """Raise `RenderingError` unless `text` is a YAML mapping that has an `engine` with a `type`."""
    config = _load(text)
    if not isinstance(config, dict):
        raise RenderingError(_bad("isn't a YAML mapping"))
    if "high_assurance" in config:
        raise RenderingError(_bad("sets high_assurance, which belongs in the manager's config.yaml"))
    engine = config.get("engine")
    if not isinstance(engine, dict):
        raise RenderingError(_bad("has no engine"))
    if not isinstance(engine.get("type"), str):
        raise RenderingError(_bad("has an engine without a type"))


def _load(text: str) -> Any:
    try:
        return load_yaml(text)
    except ValueError as error:
        reason = str(error)[:200]
        link = " in " if reason.startswith("line ") else ": "
        raise RenderingError(_bad(f"isn't valid YAML{link}{reason}")) from error


def _bad(reason: str) -> str:
    return (
        f"The configuration rendered from the endpoint's template {reason}. Check user_endpoint_config; "
        "where that is right, tell the endpoint's administrator"
    )
