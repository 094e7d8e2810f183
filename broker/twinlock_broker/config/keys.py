"""The keys of the broker's configuration files."""

import ipaddress
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from twinlock_common.keys import FLAG, NAME, TEXT, Key, Kind, nearest

from twinlock_broker.errors import Fatal

LEAST_HEARTBEAT = 5.0
"""Seconds; the agent's minimum for `heartbeat_period`."""


def _seconds(value: Any) -> float:
    """Read a number of seconds. As with the agent, it may stand in quotes."""
    if type(value) not in (int, float, str) or not 0 <= float(value) < float("inf"):
        raise ValueError
    return float(value)


def _heartbeat(value: Any) -> float:
    return max(LEAST_HEARTBEAT, _seconds(value))


def _port(value: Any) -> int:
    """Read a port number. As with the agent, it may be 443.0, or a text."""
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) not in (int, str) or not 0 < int(value) < 65536:
        raise ValueError
    return int(value)


def _uuid(value: Any) -> str:
    if type(value) is not str:
        raise ValueError
    return str(uuid.UUID(value))


def _uuids(value: Any) -> tuple[str, ...]:
    """Read a list of uuids. As with the agent, an empty text counts as an empty list.

    That isn't the same as no list: with it, for example, no function may run.
    """
    if value == "":
        return ()
    if type(value) is not list:
        raise ValueError
    return tuple(map(_uuid, value))


def _texts(value: Any) -> tuple[str, ...]:
    if type(value) is not list or not all(type(text) is str for text in value):
        raise ValueError
    return tuple(value)


def _path(value: Any) -> Path:
    if type(value) is not str or not value:
        raise ValueError
    return Path(value)


def _address(value: Any) -> str:
    """Read a path, or HOST:PORT on loopback."""
    text: str = TEXT.read(value)
    if not text.startswith("/"):
        host, _, port = text.rpartition(":")
        loopback = ipaddress.ip_address(host.removeprefix("[").removesuffix("]")).is_loopback
        if not loopback or not port.isdecimal() or not 0 < int(port) < 65536:
            raise ValueError
    return text


def _pam(value: Any) -> dict[str, Any]:
    if type(value) is not dict or not value.keys() <= {"enable", "service_name"}:
        raise ValueError
    return {"enable": FLAG.read(value.get("enable", True)), "service_name": str(value.get("service_name", ""))}


SECONDS = Kind("a number, 0 or more", _seconds)
HEARTBEAT = Kind("a number, 0 or more", _heartbeat)
PORT = Kind("a port number", _port)
UUID = Kind("a uuid", _uuid, unset=(None, ""))
UUIDS = Kind("a list of uuids", _uuids)
TEXTS = Kind("a list of texts", _texts)
PATH = Kind("a path", _path, unset=(None, ""))
ADDRESS = Kind("a path, or HOST:PORT of a loopback address", _address)
PAM = Kind("a map with enable and service_name", _pam)

MANAGER_KEYS = (
    Key("display_name", NAME, None, "", "what users see instead of the folder's name"),
    Key("email", TEXT, None, "", "address for questions about the endpoint"),
    Key("public", FLAG, False, "", "whether everyone can find the endpoint; not a means of access control"),
    Key("allowed_functions", UUIDS, None, "", "the only functions that the endpoint runs; without it, all"),
    Key("authentication_policy", UUID, None, "", "the Globus authentication policy that users have to meet"),
    Key("subscription_id", UUID, None, "", "the Globus subscription that the endpoint belongs to"),
    Key("admins", UUIDS, None, "", "identities that administer the endpoint besides its owner"),
    Key("amqp_port", PORT, None, "", "port for AMQP, instead of the one that the service names"),
    Key("heartbeat_period", HEARTBEAT, 30.0, "s", "time between two heartbeats, at least 5"),
    Key("mu_child_ep_grace_period_s", SECONDS, 30.0, "s", "how long a command for an endpoint that ends is kept"),
    Key("identity_mapping_config_path", PATH, None, "", "the identity mapping; needed if the spawner runs as root"),
    Key("user_config_template_path", PATH, None, "", "default user_config_template.yaml.j2, then the same without .j2"),
    Key("user_config_schema_path", PATH, None, "", "JSON schema of the options; default user_config_schema.json"),
    Key("pam", PAM, None, "", "enable is refused: PAM sessions are the spawner's, see pam_service in its policy"),
    Key(
        "high_assurance", FLAG, False, "", "register as a high assurance endpoint, and audit where audit_log_path says"
    ),
    Key("audit_log_path", PATH, None, "", "file for the audit of task events; used with high_assurance only"),
    Key("environment", TEXT, None, "", "the service's environment; default production, `local` is localhost:5000"),
    Key("local_compute_services", FLAG, False, "", "the service is on localhost:5000"),
    Key("debug", FLAG, False, "", "log details"),
)
"""`config.yaml` of an endpoint folder, as the agent's manager reads it."""

RETIRED_KEYS = {
    "multi_user": "every endpoint has served many users since version 4.10.1",
    "force_mu_allow_same_user": "without root an endpoint always serves its own account",
    "detach_endpoint": "systemd runs the broker in the background",
    "funcx_service_address": "'environment' names the service",
    "results_ws_uri": "'environment' names the service",
    "warn_about_url_mismatch": "'environment' names the service",
}
"""Keys of `config.yaml` that older agents had, and what holds now."""

_TEMPLATE_KEYS = (
    "heartbeat_threshold",
    "idle_heartbeats_soft",
    "idle_heartbeats_hard",
    "endpoint_setup",
    "endpoint_teardown",
)

MANAGER_HINTS = {name: f"{name} is no longer used: {reason}; delete it" for name, reason in RETIRED_KEYS.items()} | {
    name: f"{name} is a key of user endpoints: move it into user_config_template.yaml.j2" for name in _TEMPLATE_KEYS
}
"""What to do about keys that don't belong in `config.yaml`."""

NO_HINTS: Mapping[str, str] = MappingProxyType({})

BROKER_KEYS = (
    Key("endpoint_dir", PATH, None, "", "the endpoint's folder"),
    Key("spawner_socket", PATH, Path("/run/twinlock/spawner.sock"), "", "the spawner's socket"),
    Key(
        "state_dir", PATH, None, "", "tokens, and what survives a restart; default $STATE_DIRECTORY, else endpoint_dir"
    ),
    Key("runtime_dir", PATH, None, "", "where the broker's sockets are; default $RUNTIME_DIRECTORY, else state_dir"),
    Key("allow_groups", TEXTS, (), "", "local groups that may use it; a person's first account in one of them is used"),
    Key("metrics", ADDRESS, None, "", "where Prometheus fetches metrics: HOST:PORT on loopback, or a socket's path"),
    Key(
        "readers", TEXTS, (), "", "local accounts that may read the state of all endpoints, such as twinlock-console's"
    ),
    Key("mark_jobs", FLAG, True, "", "whether batch jobs name the person, the user endpoint and the manager endpoint"),
    Key("program", TEXT, "endpoint", "", "name of the user endpoint's program in the spawner's policy"),
)
"""The broker's own file (`--config`)."""


def read_keys(
    keys: tuple[Key, ...], found: Mapping[Any, Any], source: str, hints: Mapping[str, str] = NO_HINTS
) -> dict[str, Any]:
    """Return every key with its value or default. Raise `Fatal` (78), a line for each unknown key and each wrong value.

    `hints` are the lines for unknown keys about which more is known.
    """
    table = {key.name: key for key in keys}
    unknown = [name for name in found if name not in table]
    wrong = [hints.get(name) or f"unknown key {name!r}; {nearest(str(name), table)}" for name in unknown]
    values = {}
    for key in keys:
        try:
            values[key.name] = _read(key, found.get(key.name))
        except ValueError as error:
            wrong.append(str(error))
    if wrong:
        raise Fatal(os.EX_CONFIG, "\n".join(f"{source}: {text}" for text in wrong))
    return values


def _read(key: Key, value: Any) -> Any:
    try:
        return key.read(value)
    except ValueError:
        unit = f" in {key.unit}" if key.unit else ""
        raise ValueError(f"{key.name} has to be {key.kind.name}{unit}, not {value!r}") from None


def describe(keys: tuple[Key, ...]) -> str:
    """Return the table as text, a line for each key, for the help text and the documentation."""
    width = max(len(key.name) for key in keys)
    return "\n".join(f"  {key.name:<{width}}  {key.meaning}{_default(key)}" for key in keys)


def _default(key: Key) -> str:
    return "" if key.default in (None, False, ()) else f" (default {key.default}{' ' + key.unit if key.unit else ''})"
