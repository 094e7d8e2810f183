"""The rendered configuration of a user endpoint: its keys, their checks, and what they become."""

import math
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from twinlock_endpoint.errors import ConfigError, nearest

LEAST_HEARTBEAT_S = 5.0

GONE = ("detach_endpoint", "multi_user", "force_mu_allow_same_user", "results_ttl", "funcx_service_address")
"""Keys that configurations for the peer's older agents have."""

MANAGERS = ("authentication_policy", "subscription_id", "admins", "environment", "local_compute_services")
"""Keys of a manager endpoint, which the peer accepts in templates too; they have no effect there."""

_TRUE, _FALSE = ("true", "1", "on", "t", "yes", "y"), ("false", "0", "off", "f", "no", "n")


@dataclass(frozen=True, slots=True)
class Key:
    """One top-level key: how its value is checked and converted, its default, unit and meaning."""

    read: Callable[[str, Any], Any]
    default: Any
    unit: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Config:
    """The configuration, checked. `raw` is the text that it came from; the other fields are the keys of KEYS."""

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


def load(text: str) -> Config:
    """Read the YAML text; ConfigError names the key, what is wrong with it and the nearest known key."""
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
    values = {name: _value(name, key, given) for name, key in KEYS.items()}
    values["heartbeat_threshold"] = max(values["heartbeat_threshold"], int(2 * values["heartbeat_period"]))
    return Config(raw=text, **values)


def _where(error: yaml.YAMLError) -> str:
    "The problem and its place, without the excerpt that PyYAML adds: it could hold anything."
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or "can't be read"
    return f"{problem} (line {mark.line + 1}, column {mark.column + 1})" if mark else problem


def _value(name: str, key: Key, given: dict[str, Any]) -> Any:
    value = given.get(name)
    return key.default if value is None else key.read(name, value)


def _bad(name: str, value: object, wanted: str) -> ConfigError:
    return ConfigError(f"The endpoint's configuration has {name!r}: {value!r}, which is not {wanted}.")


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _bad(name, value, "a text")
    return value


def _name(name: str, value: Any) -> str | None:
    # Configurations written by old agents spell "no name" as the text None.
    return None if value == "None" else _text(name, value)


def _flag(name: str, value: Any) -> bool:
    word = str(value).lower()
    if not isinstance(value, bool | int | str) or word not in _TRUE + _FALSE:
        raise _bad(name, value, "true or false")
    return word in _TRUE


def _number(name: str, value: Any, wanted: str) -> float:
    "Users' options often arrive as texts; a number in one is as good, as with the peer."
    try:
        number = float("no" if isinstance(value, bool) else value)
    except (TypeError, ValueError):
        raise _bad(name, value, wanted) from None
    if not math.isfinite(number):
        raise _bad(name, value, wanted)
    return number


def _count(name: str, value: Any) -> int:
    number = _number(name, value, "a whole number")
    if not number.is_integer():
        raise _bad(name, value, "a whole number")
    return max(0, int(number))


def _period(name: str, value: Any) -> float:
    return max(LEAST_HEARTBEAT_S, _number(name, value, "a number of seconds"))


def _days(name: str, value: Any) -> float:
    days = _number(name, value, "a number of days")
    if days < 0:
        raise _bad(name, value, "a number of days")
    return days


def _port(name: str, value: Any) -> int:
    port = _count(name, value)
    if port not in range(1, 65536):
        raise _bad(name, value, "a port")
    return port


def _path(name: str, value: Any) -> Path:
    return Path(_text(name, value)).expanduser()


def _mapping(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _bad(name, value, "a mapping")
    return value


def _functions(name: str, value: Any) -> frozenset[str]:
    if not isinstance(value, list):
        raise _bad(name, value, "a list of function ids")
    try:
        return frozenset(str(uuid.UUID(str(item))) for item in value)
    except ValueError:
        raise _bad(name, value, "a list of function ids") from None


def _paths(name: str, value: Any) -> dict[str, Path]:
    known = ("endpoint_dir", "endpoint_log")
    for part in _mapping(name, value):
        if part not in known:
            raise ConfigError(f"The endpoint's configuration has an unknown key {name}.{part}; {nearest(part, known)}")
    return {part: _path(f"{name}.{part}", path) for part, path in value.items() if path is not None}


KEYS = {
    "engine": Key(_mapping, None, "", "what runs the tasks: `type` and that engine's own arguments"),
    "display_name": Key(_name, None, "", "a name for people"),
    "heartbeat_period": Key(_period, 30.0, "s", "time between two heartbeats, at least 5"),
    "heartbeat_threshold": Key(_count, 120, "s", "silence of the queue's broker after which the connection is lost"),
    "idle_heartbeats_soft": Key(_count, 0, "heartbeats", "shut down after so many with all work done; 0 is never"),
    "idle_heartbeats_hard": Key(_count, 5760, "heartbeats", "shut down after so many without any movement"),
    "endpoint_setup": Key(_text, None, "", "shell command run before the engine starts"),
    "endpoint_teardown": Key(_text, None, "", "shell command run after the engine ended"),
    "allowed_functions": Key(_functions, None, "", "ids of the only functions that may run"),
    "log_dir": Key(_path, None, "", "folder of endpoint.log; the endpoint's folder by default"),
    "stdout": Key(_text, None, "", "file for standard output, relative to the log's folder; endpoint.log by default"),
    "stderr": Key(_text, None, "", "file for standard error, relative to the log's folder; endpoint.log by default"),
    "amqp_port": Key(_port, None, "", "port of the queue's broker, instead of the one in its URL"),
    "debug": Key(_flag, False, "", "log in detail"),
    "paths": Key(_paths, {}, "", "endpoint_dir and endpoint_log, instead of the usual places"),
    "keep_unused_days": Key(
        _days, 0.0, "days", "remove folders of this user's endpoints that weren't used for so long; 0 is never"
    ),
    "high_assurance": Key(
        _flag, False, "", "set by the peer's manager, not by a template: the engine has to be encrypted"
    ),
}
