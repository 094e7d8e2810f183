"""The keys of a user endpoint's configuration: what each may be, its default and its meaning."""

import math
import uuid
from pathlib import Path
from typing import Any

from twinlock_common.keys import FLAG, NAME, TEXT, Key, Kind, exactly, nearest

from twinlock_endpoint.errors import ConfigError

LEAST_HEARTBEAT_S = 5.0


def read(key: Key, value: Any) -> Any:
    """Return the key's value, or its default. Raise `ConfigError` if it isn't of the key's kind."""
    try:
        return key.read(value)
    except ValueError:
        raise ConfigError(
            f"The endpoint's configuration has {key.name!r}: {value!r}, which is not {key.kind.name}."
        ) from None


def _number(value: Any) -> float:
    """Return a finite number, also from text: users' options often arrive as text, which the agent accepts as well."""
    number = math.nan if isinstance(value, bool) else float(value)
    if not math.isfinite(number):
        raise ValueError
    return number


def _count(value: Any) -> int:
    number = _number(value)
    if not number.is_integer():
        raise ValueError
    return max(0, int(number))


def _period(value: Any) -> float:
    return max(LEAST_HEARTBEAT_S, _number(value))


def _days(value: Any) -> float:
    days = _number(value)
    if days < 0:
        raise ValueError
    return days


def _port(value: Any) -> int:
    port = _count(value)
    if port not in range(1, 65536):
        raise ValueError
    return port


def _path(value: Any) -> Path:
    return Path(TEXT.read(value)).expanduser()


def _functions(value: Any) -> frozenset[str]:
    if not isinstance(value, list):
        raise ValueError
    return frozenset(str(uuid.UUID(str(item))) for item in value)


def _paths(value: Any) -> dict[str, Path]:
    for part in _MAPPING.read(value):
        if part not in _PLACES:
            near = nearest(str(part), _PLACES)
            raise ConfigError(f"The endpoint's configuration has an unknown key paths.{part}; {near}")
    return {part: read(_PLACES[part], path) for part, path in value.items() if path is not None}


_MAPPING = Kind("a mapping", exactly(dict))
_COUNT = Kind("a whole number", _count)
_PERIOD = Kind("a number of seconds", _period)
_DAYS = Kind("a number of days", _days)
_PORT = Kind("a port", _port)
_PATH = Kind("a text", _path)
_FUNCTIONS = Kind("a list of function ids", _functions)
_PATHS = Kind("a mapping", _paths)

_PLACES = {name: Key(f"paths.{name}", _PATH, None, "", "") for name in ("endpoint_dir", "endpoint_log")}

_TABLE = (
    Key("engine", _MAPPING, None, "", "what runs the tasks: `type` and that engine's own arguments"),
    Key("display_name", NAME, None, "", "a name for people"),
    Key("heartbeat_period", _PERIOD, 30.0, "s", "time between two heartbeats, at least 5"),
    Key("heartbeat_threshold", _COUNT, 120, "s", "silence of RabbitMQ after which the connection is lost"),
    Key("idle_heartbeats_soft", _COUNT, 0, "heartbeats", "shut down after so many with all work done; 0 is never"),
    Key("idle_heartbeats_hard", _COUNT, 5760, "heartbeats", "shut down after so many without any movement"),
    Key("endpoint_setup", TEXT, None, "", "shell command run before the engine starts"),
    Key("endpoint_teardown", TEXT, None, "", "shell command run after the engine ended"),
    Key("allowed_functions", _FUNCTIONS, None, "", "ids of the only functions that may run"),
    Key("log_dir", _PATH, None, "", "folder of endpoint.log; the endpoint's folder by default"),
    Key("stdout", TEXT, None, "", "file for standard output, relative to the log's folder; endpoint.log by default"),
    Key("stderr", TEXT, None, "", "file for standard error, relative to the log's folder; endpoint.log by default"),
    Key("amqp_port", _PORT, None, "", "RabbitMQ's port, instead of the one in its URL"),
    Key("debug", FLAG, False, "", "log in detail"),
    Key("paths", _PATHS, {}, "", "endpoint_dir and endpoint_log, instead of the usual places"),
    Key("keep_unused_days", _DAYS, 0.0, "days", "remove this user's endpoint folders unused for so long; 0 is never"),
    Key("high_assurance", FLAG, False, "", "set by the agent's manager, not a template: the engine must be encrypted"),
)

KEYS = {key.name: key for key in _TABLE}
"""The keys by name."""
