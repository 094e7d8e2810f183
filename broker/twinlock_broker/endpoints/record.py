"""An endpoint as text, for the state folder: what a restarted broker has to know besides the spawner's table.

It holds credentials, so whoever writes it down keeps it from everybody else.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from twinlock_broker.compute.command import Credentials, read_credentials
from twinlock_broker.config.policies import Mode
from twinlock_broker.endpoints.endpoint import Endpoint, Signed, Stopper
from twinlock_broker.endpoints.pipeline import StartRequest
from twinlock_broker.endpoints.registry import State, restart_delay
from twinlock_broker.identity.mapping import Match
from twinlock_broker.rendering.document import Document

_PLAIN = {
    "id": "id",
    "user": "user",
    "has_newer_request": "waiting",
    "crashes": "crashes",
    "failed_starts": "deaths",
    "restarted": "restarted",
}
"""The keys of fields that are written as they are.

Later versions of the broker read a record, and after a downgrade earlier ones. So keys and names of states stay what
they were in version 0.1, whatever the fields are called.
"""

_STATES = {state: "RESTING" if state is State.BACKING_OFF else state.name for state in State}
"""The states' names in records."""
_BY_NAME = {name: state for state, name in _STATES.items()}


def dump(endpoint: Endpoint) -> str:
    """Return the endpoint as JSON."""
    values: dict[str, Any] = {key: getattr(endpoint, name) for name, key in _PLAIN.items()}
    values["owes"] = endpoint.has_unfinished_tasks
    values["stopped_by"] = endpoint.stopped_by
    values["mode"] = endpoint.mode
    values["signed"] = asdict(endpoint.signed) if endpoint.signed else None
    values["command"] = endpoint.command
    values["state"] = _STATES[endpoint.state] if endpoint.state else None
    values["arrived"] = _on_calendar(endpoint.requested_at)
    values["started"] = _on_calendar(endpoint.started)
    values["again"] = _on_calendar(endpoint.restart_at)
    if endpoint.request is not None:
        values["request"] = _dump_request(endpoint.request)
    return json.dumps(values)


def load(text: str, amqp_port: int | None) -> Endpoint:
    """Return the endpoint that `dump` wrote. Raise `ValueError` for any other text. `amqp_port` as for a command."""
    try:
        return _load(json.loads(text), amqp_port)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not an endpoint's record: {error!r}") from error


def _load(values: Mapping[str, Any], amqp_port: int | None) -> Endpoint:
    endpoint = Endpoint(**{name: values[key] for name, key in _PLAIN.items()})
    endpoint.has_unfinished_tasks = values.get("owes") is True  # records of earlier versions don't say
    endpoint.stopped_by = Stopper(values["stopped_by"]) if values.get("stopped_by") else None
    endpoint.mode = Mode(values["mode"]) if values.get("mode") else None
    endpoint.signed = Signed(**values["signed"]) if values.get("signed") else None
    endpoint.command = str(values.get("command", ""))
    endpoint.state = _BY_NAME[values["state"]]
    endpoint.requested_at = _on_clock(values["arrived"])
    endpoint.started = _on_clock(values.get("started", values["arrived"]))  # those records don't say that either
    endpoint.restart_at = _due(values.get("again", 0.0), endpoint)
    if "request" in values:
        endpoint.request = _load_request(values["request"], amqp_port)
    return endpoint


def _on_calendar(moment: float) -> float:
    """Return seconds since 1970 for a time of time.monotonic(), which starts anew with the host."""
    return time.time() - (time.monotonic() - moment)


def _on_clock(date: float) -> float:
    """Return the time of time.monotonic() for seconds since 1970; now at the latest."""
    return time.monotonic() - max(0.0, time.time() - date)


def _due(date: float, endpoint: Endpoint) -> float:
    """Return when it may start again, by time.monotonic().

    Whatever became of the clock, that is after its whole delay at the latest.
    """
    left = min(date - time.time(), restart_delay(max(1, endpoint.crashes, endpoint.failed_starts)))
    return time.monotonic() + max(0.0, left)


def _dump_request(request: StartRequest) -> dict[str, Any]:
    document = request.document
    return {
        "name": request.name,
        "user": request.user,
        "program": request.program,
        "command": request.command,
        "options": request.options,
        "amqp": document.amqp.reveal(),
        "config": document.config,
        "match": asdict(document.match),
        "allowed_functions": document.allowed_functions,
        "environment": dict(document.environment),
        "job_person": document.job_person,
    }


def _load_request(values: Mapping[str, Any], amqp_port: int | None) -> StartRequest:
    found: Credentials = read_credentials(values["amqp"], amqp_port)
    allowed = values["allowed_functions"]
    document = Document(
        amqp=found.amqp,
        config=values["config"],
        match=Match(**values["match"]),
        allowed_functions=None if allowed is None else tuple(allowed),
        environment=values["environment"],
        job_person=values.get("job_person"),  # records of earlier versions have none
    )
    command = str(values.get("command", ""))
    options = values.get("options", {})  # records of earlier versions have none
    return StartRequest(values["name"], values["user"], values["program"], found, document, command, options)
