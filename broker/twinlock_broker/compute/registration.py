"""The broker as a client of the Compute service and of Globus Auth: registration, and the login's identities.

All of these functions block.
"""

import os
import platform
import pwd
import socket
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeVar

import globus_sdk
from globus_sdk.authorizers import GlobusAuthorizer
from globus_sdk.transport import RetryConfig

from twinlock_broker.compute.login import AUTH_SCOPES, COMPUTE_SCOPES, Login
from twinlock_broker.compute.queues import Source, Target, read_source, read_target
from twinlock_broker.config.folder import Folder
from twinlock_broker.errors import CommandError, Fatal

C = TypeVar("C", globus_sdk.ComputeClientV2, globus_sdk.ComputeClientV3)

LOCAL_URL = "http://localhost:5000"
"""Where the SDK and the agent look for a local Compute service."""

AGENT_VERSION = "4.19.0"
"""The version of the agent whose behaviour this is; the service requires a minimum version of agents."""

_STATUS: dict[int, int] = {
    HTTPStatus.BAD_REQUEST: os.EX_DATAERR,
    HTTPStatus.UNPROCESSABLE_ENTITY: os.EX_DATAERR,
    HTTPStatus.UNAUTHORIZED: os.EX_NOPERM,
    HTTPStatus.FORBIDDEN: os.EX_NOPERM,
    HTTPStatus.NOT_FOUND: os.EX_UNAVAILABLE,
    HTTPStatus.CONFLICT: os.EX_UNAVAILABLE,
    HTTPStatus.LOCKED: os.EX_UNAVAILABLE,
}
_LOGIN_REFUSED = (HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
_NEXT = {
    os.EX_DATAERR: "correct the endpoint's folder as the service says",
    os.EX_NOPERM: "check the client id and secret, or run twinlock login again; and that this login owns the endpoint",
    os.EX_UNAVAILABLE: "another process may hold this endpoint, or it was deleted: stop the other one and wait half a "
    "minute, or remove endpoint.json to register a new endpoint",
    os.EX_TEMPFAIL: "try again later",
}


@dataclass(frozen=True, slots=True)
class Registration:
    """The service's answer to a registration."""

    endpoint_id: str
    """The endpoint's uuid."""
    commands: Source
    """The queue from which its commands come."""
    heartbeats: Target
    """Where its heartbeats are published."""


def register(folder: Folder, endpoint_id: str | None, login: Login) -> Registration:
    """Register the endpoint, or update `endpoint_id`. Raise `Fatal` (65, 69, 70, 75, 77)."""
    answer = _call(folder, lambda: _register(folder, endpoint_id, login))
    port = folder.settings["amqp_port"]
    try:
        found = Registration(
            str(uuid.UUID(answer["endpoint_id"])),
            read_source(answer.get("command_queue_info"), port),
            read_target(answer.get("heartbeat_queue_info"), port),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Fatal(os.EX_SOFTWARE, f"the service's answer to the registration is broken: {error!r}") from error
    if endpoint_id not in (None, found.endpoint_id):
        raise Fatal(os.EX_SOFTWARE, f"the service registered {found.endpoint_id} in place of {endpoint_id}")
    return found


def delete(folder: Folder, endpoint_id: str, login: Login) -> None:
    """Have the service forget the endpoint and its user endpoints; their unfinished tasks fail. Raise `Fatal`."""
    _call(folder, lambda: _delete(folder, endpoint_id, login))


def online(folder: Folder, endpoint_id: str, login: Login) -> bool:
    """Return whether the service hears the endpoint's heartbeats. Raise `Fatal`, 69 for one that it doesn't know."""
    return _call(folder, lambda: _status(folder, endpoint_id, login)).get("status") == "online"


def identities(folder: Folder, login: Login) -> frozenset[str]:
    """Return the uuids of all identities of the login, for same-user mode. Raise `Fatal`."""
    answer = _call(folder, lambda: _userinfo(folder, login))
    try:
        return frozenset({answer["sub"], *(identity["sub"] for identity in answer.get("identity_set") or [])})
    except (KeyError, TypeError) as error:
        raise Fatal(os.EX_SOFTWARE, f"Globus Auth's answer about the login is broken: {error!r}") from error


def look_up(folder: Folder, endpoint_id: str, login: Login) -> Mapping[str, Any]:
    """Return what the service tells the login about a registered endpoint, and change nothing there.

    Raise `Fatal` (69, 75, 77).
    """
    return _call(folder, lambda: _look_up(folder, endpoint_id, login))


def document(folder: Folder) -> dict[str, Any]:
    """Return the body of the registration, with the agent's fields. Empty ones are left out."""
    settings, site = folder.settings, _site(folder)
    optional = {
        "display_name": settings["display_name"],
        "allowed_functions": settings["allowed_functions"],
        "authentication_policy": settings["authentication_policy"],
        "subscription_uuid": settings["subscription_id"],
        "admins": settings["admins"],
    }
    metadata = {
        "endpoint_version": AGENT_VERSION,
        "python_version": platform.python_version(),
        "hostname": socket.getfqdn(),
        "local_user": pwd.getpwuid(os.getuid()).pw_name,
        "endpoint_config": folder.source,
        "user_config_template": site.template,
        "user_config_schema": site.schema,
    }
    return {
        "endpoint_name": folder.path.name,
        "multi_user": True,
        "public": settings["public"],
        "high_assurance": settings["high_assurance"],
        "metadata": metadata,
    } | {key: list(value) if isinstance(value, tuple) else value for key, value in optional.items() if value}


def _site(folder: Folder) -> Any:
    try:
        return folder.read_site()
    except CommandError as error:
        raise Fatal(os.EX_CONFIG, error.detail) from error


def compute_client(kind: type[C], folder: Folder, authorizer: GlobusAuthorizer) -> C:
    """Return a client of the service that the folder's config.yaml names."""
    return kind(
        base_url=LOCAL_URL if is_local(folder) else None,
        environment=environment(folder),
        authorizer=authorizer,
        retry_config=RetryConfig(max_retries=2),
    )


def _client(kind: type[C], folder: Folder, login: Login) -> C:
    return compute_client(kind, folder, login.authorizer(environment(folder), COMPUTE_SCOPES))


def _register(folder: Folder, endpoint_id: str | None, login: Login) -> Mapping[str, Any]:
    with _client(globus_sdk.ComputeClientV3, folder, login) as client:
        body = document(folder)
        answer = client.update_endpoint(endpoint_id, body) if endpoint_id else client.register_endpoint(body)
        return _mapping(answer.data)


def _look_up(folder: Folder, endpoint_id: str, login: Login) -> Mapping[str, Any]:
    with _client(globus_sdk.ComputeClientV2, folder, login) as client:
        return _mapping(client.get_endpoint(endpoint_id).data)


def _delete(folder: Folder, endpoint_id: str, login: Login) -> Mapping[str, Any]:
    with _client(globus_sdk.ComputeClientV2, folder, login) as client:
        return _mapping(client.delete_endpoint(endpoint_id).data)


def _status(folder: Folder, endpoint_id: str, login: Login) -> Mapping[str, Any]:
    with _client(globus_sdk.ComputeClientV2, folder, login) as client:
        return _mapping(client.get_endpoint_status(endpoint_id).data)


def _userinfo(folder: Folder, login: Login) -> Mapping[str, Any]:
    authorizer = login.authorizer(environment(folder), AUTH_SCOPES)
    with globus_sdk.AuthClient(environment=environment(folder), authorizer=authorizer) as client:
        return _mapping(client.userinfo().data)


def is_local(folder: Folder) -> bool:
    """Return whether the service is the local one."""
    return bool(folder.settings["local_compute_services"]) or folder.settings["environment"] == "local"


def environment(folder: Folder) -> str | None:
    """Return the service's environment for globus-sdk.

    None leaves the choice to globus-sdk, which has never heard of `local`: Auth's URL is then set apart.
    """
    return None if folder.settings["environment"] == "local" else folder.settings["environment"]


def _call(folder: Folder, call: Any) -> Mapping[str, Any]:
    try:
        answer: Mapping[str, Any] = call()
    except globus_sdk.AuthAPIError as error:
        said = f"{error.http_status} {error.message or error.text}"[:500]
        status = os.EX_NOPERM if error.http_status in _LOGIN_REFUSED else os.EX_TEMPFAIL
        raise Fatal(status, f"{folder.path.name}: Globus Auth refused the login ({said}); {_NEXT[status]}") from error
    except globus_sdk.GlobusAPIError as error:
        status = _STATUS.get(error.http_status, os.EX_TEMPFAIL)  # also one that HTTPStatus doesn't know
        said = f"{error.http_status} {error.message or error.text}"[:500]
        raise Fatal(status, f"{folder.path.name}: the service refused ({said}); {_NEXT[status]}") from error
    except globus_sdk.NetworkError as error:
        raise Fatal(os.EX_TEMPFAIL, f"the service can't be reached: {error}; {_NEXT[os.EX_TEMPFAIL]}") from error
    except OSError as error:  # errors of the network are NetworkError; this one is about the file of a person's tokens
        raise Fatal(os.EX_TEMPFAIL, f"fresh tokens can't be kept: {error}; {_NEXT[os.EX_TEMPFAIL]}") from error
    except ValueError as error:  # globus-sdk's word for an environment that it doesn't know
        raise Fatal(os.EX_CONFIG, f"{folder.path / 'config.yaml'}: environment: {error}") from error
    return answer


def _mapping(answer: Any) -> Mapping[str, Any]:
    if not isinstance(answer, Mapping):
        raise Fatal(os.EX_SOFTWARE, "the service's answer isn't a JSON object")
    return answer
