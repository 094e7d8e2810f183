"""The broker's answers on its sockets, checked: it may be of another version, or something else may listen there.

Texts in them come from users as well, by way of their endpoints, and go to root's terminal.
"""

import json
from collections.abc import Callable
from typing import Any

import jsonschema

from twinlock_broker.printable import printable, printable_lines

_LONGEST = 500
_OF_LINES = ("config", "events", "failures")
_NUMBER = {"type": "number", "minimum": -(1 << 53), "maximum": 1 << 53}
_TEXT = {"type": "string"}
_FLAG = {"type": "boolean"}
_SIGNED_FIELDS = {"key": _TEXT, "delegation": _TEXT}
_SIGNED = {"type": "object", "required": list(_SIGNED_FIELDS), "properties": _SIGNED_FIELDS}
_ROW = {
    "id": _TEXT,
    "user": _TEXT,
    "state": _TEXT,
    "mode": _TEXT,
    "signed": {"anyOf": [_SIGNED, {"type": "null"}]},
    "pid": {"type": "integer"},
    "seconds": {"anyOf": [_NUMBER, {"type": "null"}]},
    "restart_waits": _FLAG,
    "figures": {"type": ["object", "null"], "additionalProperties": _NUMBER},
    "condition": _TEXT,
}
_NEW_IN_ROW = {"options": _TEXT, "jobs": {"type": "array", "items": _TEXT}}
"""What a broker of version 0.2 doesn't say of an endpoint."""
_ORDER_FIELDS = {"reason": _TEXT, "by": _TEXT, "since": _NUMBER}
_ORDER = {"type": "object", "required": list(_ORDER_FIELDS), "properties": _ORDER_FIELDS}
_MINE = {
    "endpoint": _TEXT,
    "name": _TEXT,
    "started": _NUMBER,
    "endpoints": {
        "type": "array",
        "items": {"type": "object", "required": list(_ROW), "properties": _ROW | _NEW_IN_ROW},
    },
}
_STATUS = _MINE | {
    "spawner_connected": _FLAG,
    "drain": {"anyOf": [_ORDER, {"type": "null"}]},
    "blocked": {"type": "object", "additionalProperties": _ORDER},
}
_NEW_IN_STATUS = {
    "version": _TEXT,
    "amqp": {"type": "object", "additionalProperties": _FLAG},
    "starts": {"type": "object", "additionalProperties": _NUMBER},
}
"""What a broker of version 0.2 doesn't say of itself."""
_CHANGE = {
    "type": "object",
    "anyOf": [{"required": ["done"]}, {"required": ["failed"]}],
    "properties": {"done": _FLAG, "failed": _TEXT},
}
_FAILURE_TEXTS = (
    "endpoint",
    "command",
    "stage",
    "reason",
    "detail",
    "printed",
    "identity",
    "mapped",
    "user",
    "options",
)
_FAILURE_FIELDS = dict.fromkeys(_FAILURE_TEXTS, _TEXT) | {
    "at": _NUMBER,
    "commanded": {"anyOf": [_NUMBER, {"type": "null"}]},
}
_FAILURE = {"type": "object", "required": list(_FAILURE_FIELDS), "properties": _FAILURE_FIELDS}
_COUNTS = {"type": "object", "additionalProperties": _NUMBER}
_TIMES_FIELDS = {"bounds": {"type": "array", "items": _NUMBER}, "counts": {"type": "array", "items": _NUMBER}}
_TIMES = {"type": "object", "required": list(_TIMES_FIELDS), "properties": _TIMES_FIELDS}
_STARTS = {
    "commands": _COUNTS,
    "starts": _COUNTS,
    "seconds": _TIMES,
    "stages": {"type": "object", "additionalProperties": _TIMES},
}
SHAPES: dict[str, dict[str, Any]] = {
    "status": {"type": "object", "required": list(_STATUS), "properties": _STATUS | _NEW_IN_STATUS},
    "mine": {"type": "object", "required": list(_MINE), "properties": _MINE},
    "options": {"type": "object", "required": ["options"], "properties": {"options": {"type": ["object", "null"]}}},
    "canary": {"type": "object", "required": ["noted"], "properties": {"noted": _FLAG}},
    "stop": {"type": "object", "required": ["stopped"], "properties": {"stopped": _FLAG}},
    "config": {
        "type": "object",
        "required": ["config", "user_dir"],
        "properties": {"config": {"type": ["string", "null"]}, "user_dir": _TEXT},
    },
    "events": {
        "type": "object",
        "required": ["events"],
        "properties": {"events": {"type": "array", "items": _TEXT}},
    },
    "failures": {
        "type": "object",
        "required": ["failures"],
        "properties": {"failures": {"type": "array", "items": _FAILURE}},
    },
    "starts": {"type": "object", "required": list(_STARTS), "properties": _STARTS},
    **dict.fromkeys(("block", "unblock", "drain", "resume"), _CHANGE),
}
"""JSON schemas of the answers, by the request. `seconds` is an endpoint's age, and `started` is in seconds since 1970.
`figures` is null while an endpoint isn't connected to the broker. `mode` is empty if the broker couldn't read the
spawner's policy; `signed` is an endpoint's own word, and null in plain mode, or before its first signed task.
The answers `options` and `config`, which is YAML, are null if there is no such endpoint, or the broker found it
running; a row's options are then empty. `user_dir` is the endpoint's GLOBUS_COMPUTE_USER_DIR, or empty. `failures` are
those of `endpoints.failures`, and `starts` those of `control.start_figures`.
"""


def read(request: str, line: bytes) -> dict[str, Any]:
    """Return the answer to `request`, without anything that a terminal acts upon. Raise `ValueError` with a reason.

    Options stay as they are; texts of `_OF_LINES` may be long, and have lines.
    """
    try:
        found = json.loads(line, parse_constant=_no_number)
        if isinstance(found, dict) and "error" in found:
            raise ValueError(printable(str(found["error"]), _LONGEST))
        jsonschema.validate(found, SHAPES[request])
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except jsonschema.ValidationError as error:
        raise ValueError(printable(f"{error.json_path}: {error.message}", _LONGEST)) from error
    show = printable_lines if request in _OF_LINES else _one_line
    answer: dict[str, Any] = found if request == "options" else _shown(found, show)
    return answer


def _one_line(text: str) -> str:
    return printable(text, _LONGEST)


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def _shown(value: Any, show: Callable[[str], str]) -> Any:
    """Return the value with all its texts as `show` makes them printable."""
    if isinstance(value, str):
        return show(value)
    if isinstance(value, list):
        return [_shown(part, show) for part in value]
    if isinstance(value, dict):
        return {show(name): _shown(part, show) for name, part in value.items()}
    return value
