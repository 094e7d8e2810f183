"""The rendered configuration of a user endpoint, read and checked."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from twinlock_common.keys import nearest

from twinlock_endpoint.config.keys import KEYS, read
from twinlock_endpoint.errors import ConfigError

GONE = ("detach_endpoint", "multi_user", "force_mu_allow_same_user", "results_ttl", "funcx_service_address")
"""Keys from configurations for older releases of the agent."""

MANAGERS = ("authentication_policy", "subscription_id", "admins", "environment", "local_compute_services")
"""Keys of a manager endpoint, which the agent accepts in templates too; they have no effect there."""


@dataclass(frozen=True, slots=True)
class Config:
    """The checked configuration.

    `raw` is the text that it came from; the other fields are the keys of `KEYS`, which has their meanings and units.
    """

    raw: str
    engine: dict[str, Any]
    display_name: str | None
    heartbeat_period: float
    heartbeat_threshold: int
    idle_heartbeats_soft: int
    idle_heartbeats_hard: int
    endpoint_setup: str | None
    endpoint_teardown: str | None
    allowed_functions: frozenset[str] | None
    log_dir: Path | None
    stdout: str | None
    stderr: str | None
    amqp_port: int | None
    debug: bool
    paths: dict[str, Path]
    high_assurance: bool
    keep_unused_days: float

    def permitted(self, by_manager: frozenset[str] | None) -> frozenset[str] | None:
        """Return the ids of the only functions that may run; None if any may.

        Manager endpoint and template may both restrict them; then only those in both lists may run.
        """
        if by_manager is None or self.allowed_functions is None:
            return self.allowed_functions if by_manager is None else by_manager
        return by_manager & self.allowed_functions


def defaults() -> Config:
    """Return a configuration without an engine, for what comes before there is one."""
    return Config(raw="", engine={}, **{name: read(key, None) for name, key in KEYS.items() if name != "engine"})


def load(text: str) -> Config:
    """Read the YAML text. Raise `ConfigError` with the key, what is wrong with it and the nearest known key."""
    try:
        given = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"The endpoint's configuration is not YAML: {_where(error)}") from None
    if not isinstance(given, dict):
        raise ConfigError("The endpoint's configuration is not a mapping of keys to values.")
    for name in given:
        if name in GONE:
            raise ConfigError(f"The endpoint's configuration has {name!r}, which means nothing any more; leave it out.")
        if name not in KEYS and name not in MANAGERS:
            raise ConfigError(f"The endpoint's configuration has an unknown key {name!r}; {nearest(str(name), KEYS)}")
    if given.get("engine") is None:
        raise ConfigError("The endpoint's configuration has no 'engine'; without one it can't run any task.")
    values = {name: read(key, given.get(name)) for name, key in KEYS.items()}
    values["heartbeat_threshold"] = max(values["heartbeat_threshold"], int(2 * values["heartbeat_period"]))
    return Config(raw=text, **values)


def _where(error: yaml.YAMLError) -> str:
    """Return the problem and its place, without the excerpt that PyYAML adds: it could hold anything."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or "can't be read"
    return f"{problem} (line {mark.line + 1}, column {mark.column + 1})" if mark else problem
