"""The start document, which a manager endpoint writes to a user endpoint's standard input: one JSON object.

It is compatible with what the agent's `_start-user-endpoint` reads, plus `OURS`. In place of those, the agent's manager
writes `AGENT_KEYS`: a file in memory with fresh credentials, its key, and a pipe for audit records.
"""

import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict, TypeVar

from twinlock_common.keys import nearest
from twinlock_common.queues import Destination, Source, read_destination, read_source

T = TypeVar("T")

_REQUEST = re.compile(r"[0-9a-f]{8}")


class Entries(TypedDict, total=False):
    """The document as JSON, as Twinlock's manager endpoint writes it."""

    amqp_creds: dict[str, Any]
    """The service's credentials, as they came with the start command."""
    config: str
    """The rendered configuration, in YAML."""
    ep_info: dict[str, Any]
    """About the manager endpoint: its pid, the identities that were mapped, and `OURS_INSIDE`.

    Endpoints of version 0.2 and before refuse an entry that they don't know, but nothing in here.
    """
    allowed_functions: list[str]
    """Uuids of the only functions that may run; without the key, all may."""
    environment: dict[str, str]
    """Variables for the endpoint and its tasks."""
    restarted: bool
    """It follows an endpoint that has ended: the tasks may be done already, so it may be idle before it has had one."""
    control: str
    """The path of the broker's control socket."""
    audited: bool
    """The events of tasks have to be audited over that socket."""


KEYS = tuple(Entries.__annotations__)
OURS = ("environment", "restarted", "control", "audited")
REQUEST = "twinlock_request"
"""The entry of `ep_info` with the id of the request that the endpoint is started for."""
JOB_PERSON = "job_person"
"""The entry of `ep_info` with the person whom batch jobs are to name."""
OURS_INSIDE = (REQUEST, JOB_PERSON)
AGENT_KEYS = ("mem_fd", "enckey", "audit_fd")
PUBLISH_KEYS = ("exchange", "routing_key", "mandatory", "properties")


class DocumentError(ValueError):
    """The document isn't what a manager endpoint has to write. The text is for the user."""

    exit_code = os.EX_DATAERR


@dataclass(frozen=True, slots=True)
class Queues:
    """The endpoint's queues. Fresh credentials are always for all of them."""

    tasks: Source
    """Where tasks come from."""
    results: Destination
    """Where results go."""
    heartbeats: Destination
    """Where status reports go."""


@dataclass(frozen=True, slots=True)
class Document:
    """All that the manager endpoint says about a user endpoint."""

    endpoint_id: str
    """The user endpoint's uuid."""
    queues: Queues
    """Its queues, with their credentials."""
    config: str
    """The rendered configuration, in YAML."""
    info: dict[str, Any]
    """About the manager endpoint, see `Entries`."""
    job_person: str | None
    """The person whom batch jobs are to name, as the service calls them; None if jobs name nobody."""
    request: str
    """The id of the request that it is started for, eight hexadecimal digits; empty if that isn't said."""
    allowed_functions: frozenset[str] | None
    """Uuids, in small letters, of the only functions that may run; None if all may."""
    environment: dict[str, str]
    """Variables for the endpoint and its tasks."""
    restarted: bool
    """An endpoint with the same uuid has ended before, see `Entries`."""
    control: str
    """The path of the broker's control socket; empty if there is none."""
    audited: bool
    """The events of tasks have to be audited."""
    shared_fd: int | None
    """The descriptor of the agent's file with fresh credentials; None if Twinlock's manager wrote the document."""
    shared_key: str = field(repr=False)
    """The key of that file."""
    audit_fd: int | None
    """The descriptor of the agent's pipe for audit records; None if there is none."""


def parse(raw: bytes) -> Document:
    """Read the document. Raise `DocumentError`, which says which part is missing or of the wrong type."""
    try:
        whole = json.loads(raw)
    except ValueError as error:
        raise DocumentError(f"The start document is not JSON ({error}).") from None
    if not isinstance(whole, dict):
        raise DocumentError("The start document is not a JSON object.")
    _only(whole, KEYS + AGENT_KEYS)
    whole = {name: value for name, value in whole.items() if name not in AGENT_KEYS or value is not None}
    creds = _get(whole, "amqp_creds", dict)
    info = _get(whole, "ep_info", dict)
    return Document(
        endpoint_id=_get(creds, "endpoint_id", str, "amqp_creds"),
        queues=queues(creds),
        config=_get(whole, "config", str),
        info={name: value for name, value in info.items() if name not in OURS_INSIDE},
        job_person=_get(info, JOB_PERSON, str, "ep_info") if JOB_PERSON in info else None,
        request=_request(info),
        allowed_functions=_strings_or_none(whole, "allowed_functions"),
        environment=_environment(whole),
        restarted=_get({"restarted": False} | whole, "restarted", bool),
        control=_get({"control": ""} | whole, "control", str),
        audited=_get({"audited": "audit_fd" in whole} | whole, "audited", bool),
        shared_fd=_get(whole, "mem_fd", int) if "mem_fd" in whole else None,
        shared_key=_get({"enckey": ""} | whole, "enckey", str),
        audit_fd=_get(whole, "audit_fd", int) if "audit_fd" in whole else None,
    )


def _request(info: dict[str, Any]) -> str:
    request = info.get(REQUEST)
    return request if isinstance(request, str) and _REQUEST.fullmatch(request) else ""


def without(raw: bytes, names: Sequence[str]) -> bytes:
    """Return the text of a document that `parse` accepts, without the entries called `names`."""
    return json.dumps({name: value for name, value in json.loads(raw).items() if name not in names}).encode()


def queues(creds: dict[str, Any]) -> Queues:
    """Return the queues in `amqp_creds`.

    Raise `DocumentError`, which says which part is missing or of the wrong type.
    """
    return Queues(
        tasks=_read(creds, "task_queue_info", read_source),
        results=_destination(creds, "result_queue_info"),
        heartbeats=_destination(creds, "heartbeat_queue_info"),
    )


def _get(mapping: dict[str, Any], key: str, kind: type[T], where: str = "") -> T:
    path = f"{where}.{key}" if where else key
    if key not in mapping:
        raise DocumentError(f"The start document has no {path!r}.")
    value = mapping[key]
    if not isinstance(value, kind):
        raise DocumentError(f"In the start document {path!r} is a {type(value).__name__}, not a {kind.__name__}.")
    return value


def _only(mapping: dict[str, Any], known: Sequence[str]) -> None:
    for key in mapping:
        if key not in known:
            raise DocumentError(f"The start document has an unknown entry {key!r}; {nearest(key, known)}")


def _read(creds: dict[str, Any], key: str, read: Callable[[dict[str, Any]], T]) -> T:
    info = _get(creds, key, dict, "amqp_creds")
    try:
        return read(info)
    except ValueError as error:
        raise DocumentError(f"In the start document 'amqp_creds.{key}' can't be used: {error}.") from None


def _destination(creds: dict[str, Any], key: str) -> Destination:
    info = _get(creds, key, dict, "amqp_creds")
    _only(_get(info, "queue_publish_kwargs", dict, f"amqp_creds.{key}"), PUBLISH_KEYS)
    return _read(creds, key, read_destination)


def _strings_or_none(whole: dict[str, Any], key: str) -> frozenset[str] | None:
    if whole.get(key) is None:
        return None
    values = _get(whole, key, list)
    if not all(isinstance(value, str) for value in values):
        raise DocumentError(f"In the start document {key!r} is not a list of strings.")
    return frozenset(value.lower() for value in values)


def _environment(whole: dict[str, Any]) -> dict[str, str]:
    variables = _get(whole, "environment", dict) if "environment" in whole else {}
    for name, value in variables.items():
        if not isinstance(value, str) or not name or "=" in name or "\0" in name + value:
            raise DocumentError(f"In the start document the environment variable {name!r} can't be set.")
    return variables
