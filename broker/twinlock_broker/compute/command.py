"""The way from a message on the command queue to a checked `StartCommand`.

The service is trusted, but no field of a message beyond that: each is used only after its shape was checked. The format
is the service's: a JSON object {command, args, kwargs, globus_username, globus_effective_identity,
globus_identity_set}, with the properties content_type and timestamp.
"""

import hashlib
import json
import re
import uuid
from dataclasses import dataclass, field
from typing import Any

from twinlock_broker.compute.queues import Target, read_source, read_target
from twinlock_broker.errors import CommandError
from twinlock_broker.secret import Secret

MAX_BODY = 1 << 20
"""Bytes of a command. The service's are a few KiB; the users' options make the difference."""

MAX_SKEW = 180
"""Seconds by which a command's timestamp may differ from this host's clock, either way."""

_IDENTITIES = 200
_LONGEST_NAME = 200
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+_-]{0,63}")


def new_id() -> str:
    """Return an id for something that a user is told about, short enough to be read out over the phone."""
    return uuid.uuid4().hex[:8]


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message as it arrived; nothing in it was checked."""

    content_type: Any
    """The type of the body, as the sender names it."""
    timestamp: Any
    """In seconds since 1970, as the sender set it."""
    body: bytes
    """The command, as JSON."""
    redelivered: bool = False
    """By RabbitMQ's word, it was delivered before, and not acknowledged."""
    id: str = field(default_factory=new_id, compare=False)
    """Ours: by it the command is found in the broker's log, in the spawner's, and in what its user is told."""

    def fingerprint(self) -> bytes:
        """Return a hash that tells this command from all others, except its twins of the same second."""
        return hashlib.sha256(repr((self.content_type, self.timestamp)).encode() + self.body).digest()


@dataclass(frozen=True, slots=True)
class Credentials:
    """The credentials of one user endpoint."""

    endpoint_id: str
    """The user endpoint's uuid."""
    amqp: Secret[dict[str, Any]]
    """The service's `amqp_creds`, with all of its queues, for the start document."""
    notices: Target
    """Where failure notices about it are published."""


@dataclass(frozen=True, slots=True)
class StartCommand:
    """A start command in which every field has the right shape."""

    name: str
    """The endpoint's name, ``uep.MANAGER.ENDPOINT`` with both uuids."""
    credentials: Credentials
    """The user endpoint's."""
    options: dict[str, Any]
    """The user's options."""
    runtime: dict[str, Any]
    """What the user's SDK says about itself and its Python."""
    username: str
    """The name of the identity that the user logged in with, for the log."""
    identities: list[dict[str, Any]]
    """The user's identity set: JSON objects with `sub` and `id`."""
    id: str = ""
    """The delivery's."""

    @property
    def environment(self) -> dict[str, str]:
        """The variables that tell the endpoint what the user runs, under the agent's names."""
        python = self.runtime.get("python")
        versions = {
            "GC_USER_PYTHON_VERSION": python.get("version") if isinstance(python, dict) else None,
            "GC_USER_SDK_VERSION": self.runtime.get("globus_compute_sdk_version"),
        }
        known = {key: value for key, value in versions.items() if isinstance(value, str) and _VERSION.fullmatch(value)}
        return known | {"GLOBUS_COMPUTE_ENDPOINT_NAME": self.name}

    def name_of(self, identity: str | None) -> str:
        """Return the username of the identity with this uuid; without one, that of the identity that logged in."""
        names = [one.get("username") for one in self.identities if one["id"] == identity]
        return str(names[0])[:_LONGEST_NAME] if names and names[0] else self.username


def decode(delivery: Delivery) -> dict[str, Any]:
    """Return the JSON object in the message. Raise `CommandError`."""
    if len(delivery.body) > MAX_BODY:
        raise CommandError(
            f"The start request has {len(delivery.body):,} bytes; at most {MAX_BODY:,} are allowed. "
            "Pass less in user_endpoint_config"
        )
    if delivery.content_type != "application/json":
        raise _unreadable(f"its content type is {str(delivery.content_type)[:60]!r}, not 'application/json'")
    try:
        message = json.loads(delivery.body)
    except RecursionError as error:
        raise CommandError("The options are nested too deeply. Flatten user_endpoint_config") from error
    except ValueError as error:
        raise _unreadable(f"not JSON: {error}") from error
    if not isinstance(message, dict):
        raise _unreadable("not a JSON object")
    return message


def _unreadable(why: str) -> CommandError:
    return CommandError(
        f"The start request can't be read ({why}). Submit the task again, with shorter values in user_endpoint_config "
        "where they are long; if that doesn't help, tell the endpoint's administrator"
    )


def credentials(message: dict[str, Any], port: int | None) -> Credentials:
    """Return the user endpoint's credentials. Raise `CommandError`, for the log only.

    They are read first, since with them the user can be told of all other faults. `port` replaces that of the AMQP
    address.
    """
    kwargs = message.get("kwargs")
    found = kwargs.get("amqp_creds") if isinstance(kwargs, dict) else None
    try:
        return read_credentials(found, port)
    except ValueError as error:
        raise CommandError(str(error)) from error


def read_credentials(found: Any, port: int | None) -> Credentials:
    """Return the credentials in `amqp_creds`, as far as a notice needs them. Raise `ValueError`.

    `port` replaces that of the AMQP address.
    """
    if not isinstance(found, dict):
        raise ValueError("no amqp_creds in kwargs")
    reading = "endpoint_id"
    try:
        endpoint_id = str(uuid.UUID(_text(found, reading)))
        reading = "heartbeat_queue_info"
        return Credentials(endpoint_id, Secret(found), read_target(found.get(reading), port))
    except ValueError as error:
        raise ValueError(f"amqp_creds: {reading}: {error}") from error


def check_queues(found: Credentials) -> None:
    """Raise `CommandError` unless the endpoint can get tasks and send results with these credentials."""
    reading = "task_queue_info"
    try:
        read_source(found.amqp.reveal().get(reading), None)
        reading = "result_queue_info"
        read_target(found.amqp.reveal().get(reading), None)
    except ValueError as error:
        raise _unreadable(f"amqp_creds: {reading}: {error}") from error


def check_fresh(timestamp: Any, now: float) -> None:
    """Raise `CommandError` unless the command is of now, give or take `MAX_SKEW`. Both times are seconds since 1970."""
    if type(timestamp) is not int:
        raise CommandError("The start request has no timestamp. Submit the task again")
    if abs(now - timestamp) > MAX_SKEW:
        raise CommandError(
            f"The start request is too old, or a clock is wrong: it is from {timestamp}, the endpoint's clock says "
            f"{round(now)} (seconds since 1970; at most {MAX_SKEW} apart). Submit the task again; if that doesn't "
            "help, tell the endpoint's administrator to check the clock"
        )


def check_known(message: dict[str, Any]) -> None:
    """Raise `CommandError` unless it is the only command that there is, `cmd_start_endpoint`."""
    if message.get("command") != "cmd_start_endpoint":
        raise CommandError(
            f"The endpoint doesn't know the command {str(message.get('command'))[:60]!r}. "
            "It may be too old for the service: tell the endpoint's administrator"
        )


def parse(message: dict[str, Any], found: Credentials, manager_id: str, command_id: str = "") -> StartCommand:
    """Return the start command for an endpoint of the manager `manager_id`. Raise `CommandError`."""
    kwargs = message["kwargs"]
    expected = f"uep.{manager_id}.{found.endpoint_id}"
    if kwargs.get("name") != expected:
        raise CommandError(
            "The start request names a different endpoint than its credentials. Submit the task again; if that doesn't "
            "help, tell the endpoint's administrator",
            f"name {str(kwargs.get('name'))[:200]!r}, expected {expected!r}",
        )
    check_queues(found)
    return StartCommand(
        name=expected,
        credentials=found,
        options=_mapping(kwargs, "user_opts"),
        runtime=_mapping(kwargs, "user_runtime"),
        username=str(message.get("globus_username"))[:_LONGEST_NAME],
        identities=_identities(message.get("globus_identity_set")),
        id=command_id,
    )


def _text(values: dict[str, Any], key: str) -> str:
    value = values.get(key)
    if not isinstance(value, str):
        raise ValueError(f"{key} is missing or isn't a text")
    return value


def _mapping(kwargs: dict[str, Any], key: str) -> dict[str, Any]:
    value = kwargs.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise CommandError(f"The start request's {key} is not a mapping. Submit the task again")
    return value


def _identities(found: Any) -> list[dict[str, Any]]:
    """Return the identities that have a text as `sub` and, if there is one, as `id`: mappers and login compare these.

    Raise `CommandError` if one has no such `sub`, if none is left, or if there are too many.
    """
    known = found if isinstance(found, list) and len(found) <= _IDENTITIES else []
    if all(isinstance(identity, dict) and isinstance(identity.get("sub"), str) for identity in known):
        usable = [{"id": identity["sub"]} | identity for identity in known if isinstance(identity.get("id", ""), str)]
        if usable:
            return usable
    raise CommandError("The start request doesn't say who you are (its identity set is broken). Submit it again")
