"""An endpoint as text, for the state folder: what a broker that starts over has to know beside the spawner's table.

It holds credentials, so whoever writes it down keeps it from everybody else.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from twinlock_broker.compute.command import Credentials, read_credentials
from twinlock_broker.endpoints.endpoint import Endpoint
from twinlock_broker.endpoints.registry import State
from twinlock_broker.endpoints.start import StartRequest
from twinlock_broker.identity.mapping import Match
from twinlock_broker.rendering.document import Document

_PLAIN = ("id", "user", "waiting", "crashes", "deaths", "restarted")


def dump(endpoint: Endpoint) -> str:
    """The endpoint as JSON."""
    values: dict[str, Any] = {name: getattr(endpoint, name) for name in _PLAIN}
    values["owes"] = endpoint.owes
    values["state"] = endpoint.state.name if endpoint.state else None
    # the monotonic clock starts over with the host
    values["arrived"] = time.time() - (time.monotonic() - endpoint.arrived)
    if endpoint.request is not None:
        values["request"] = _dump_request(endpoint.request)
    return json.dumps(values)


def load(text: str, amqp_port: int | None) -> Endpoint:
    """The endpoint again. `amqp_port` as for a command. Raises ValueError for anything that `dump` didn't write."""
    try:
        return _load(json.loads(text), amqp_port)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not an endpoint's record: {error!r}") from error


def _load(values: Mapping[str, Any], amqp_port: int | None) -> Endpoint:
    endpoint = Endpoint(**{name: values[name] for name in _PLAIN})
    endpoint.owes = values.get("owes") is True  # records of earlier versions don't say
    endpoint.state = State[values["state"]]
    endpoint.arrived = time.monotonic() - max(0.0, time.time() - values["arrived"])
    endpoint.started = endpoint.arrived
    if "request" in values:
        endpoint.request = _load_request(values["request"], amqp_port)
    return endpoint


def _dump_request(request: StartRequest) -> dict[str, Any]:
    document = request.document
    return {
        "name": request.name,
        "user": request.user,
        "program": request.program,
        "amqp": document.amqp.reveal(),
        "config": document.config,
        "match": asdict(document.match),
        "allowed_functions": document.allowed_functions,
        "environment": dict(document.environment),
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
    )
    return StartRequest(values["name"], values["user"], values["program"], found, document)
