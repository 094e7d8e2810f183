"""The users file: who may use the service, with which token or client secret, and under which Globus identity."""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from twinlock_service.errors import StartError

CLIENT_DOMAIN = "clients.auth.globus.org"


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Linked(_Entry):
    id: uuid.UUID
    username: str


class _User(_Entry):
    id: uuid.UUID
    name: str = ""
    email: str = ""
    organization: str = ""
    token: SecretStr = Field(min_length=1)
    linked: list[_Linked] = []


class _Client(_Entry):
    secret: SecretStr = Field(min_length=1)


class _Administrator(_Entry):
    user: str = Field(min_length=1)
    password: SecretStr = Field(min_length=1)


class _UsersFile(_Entry):
    users: dict[str, _User] = {}
    clients: dict[uuid.UUID, _Client] = {}
    rabbitmq: _Administrator | None = None


@dataclass(frozen=True, slots=True)
class Identity:
    """Someone who is logged in: a user, or a confidential client. `linked` are (uuid, username) of the same person."""

    id: str
    username: str
    name: str
    email: str
    organization: str
    linked: tuple[tuple[str, str], ...] = ()

    @property
    def ids(self) -> frozenset[str]:
        """The uuids of all identities of this person."""
        return frozenset({self.id, *(linked for linked, _ in self.linked)})

    def identity_set(self) -> list[dict[str, Any]]:
        """All identities, the effective one first, in the form that Globus Auth and start commands give them."""
        return [self._document(*each) for each in ((self.id, self.username), *self.linked)]

    def _document(self, identity: str, username: str) -> dict[str, Any]:
        domain = username.rpartition("@")[2]
        return {
            "sub": identity,
            "id": identity,
            "username": username,
            "email": self.email,
            "name": self.name,
            "organization": self.organization,
            "identity_provider": str(uuid.uuid5(uuid.NAMESPACE_DNS, domain)),
            "identity_provider_display_name": domain,
            "last_authentication": None,
            "identity_type": "login",
            "status": "used",
        }


class Users:
    """The users and clients of a users file, looked up by what they show."""

    def __init__(self, document: _UsersFile) -> None:
        self._users = {name: _user_identity(name, entry) for name, entry in document.users.items()}
        self._tokens = {name: entry.token.get_secret_value() for name, entry in document.users.items()}
        self._by_digest = {digest(token): self._users[name] for name, token in self._tokens.items()}
        self._secrets = {str(client): entry.secret.get_secret_value() for client, entry in document.clients.items()}
        self._by_id = {each.id: each for each in [*self._users.values(), *map(_client_identity, self._secrets)]}

        self._rabbitmq = document.rabbitmq

    def rabbitmq_login(self) -> tuple[str, str] | None:
        """User and password of an administrator of the RabbitMQ that ``--amqp URL`` names."""
        login = self._rabbitmq
        return None if login is None else (login.user, login.password.get_secret_value())

    def token_of(self, username: str) -> str | None:
        """The bearer token of a user."""
        return self._tokens.get(username)

    def by_token(self, token: str) -> Identity | None:
        """The user whose bearer token this is."""
        return self._by_digest.get(digest(token))

    def by_id(self, identity: str) -> Identity | None:
        """The user or client with this identity uuid."""
        return self._by_id.get(identity)

    def by_secret(self, client: str, secret: str) -> Identity | None:
        """The confidential client, if the secret is the client's own."""
        expected = self._secrets.get(client)
        if expected is None or not hmac.compare_digest(expected.encode(), secret.encode()):
            return None
        return self._by_id[client]


def digest(token: str) -> str:
    """What tokens are looked up and stored by, so that neither timing nor the state file gives one away."""
    return hashlib.sha256(token.encode()).hexdigest()


def load_users(path: Path) -> Users:
    """Reads the users file. StartError: it can't be read, others can read it, or it doesn't say what it has to."""
    try:
        with path.open("rb") as file:
            _check_mode(path, os.fstat(file.fileno()).st_mode)
            users = Users(_UsersFile.model_validate(yaml.safe_load(file) or {}))
    except OSError as error:
        code = os.EX_NOPERM if isinstance(error, PermissionError) else os.EX_NOINPUT
        raise StartError(code, f"users file {path}: {error.strerror}") from None
    except yaml.YAMLError as error:
        # The text of a YAMLError quotes the file, which holds secrets.
        line = error.problem_mark.line + 1 if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark else "?"
        raise StartError(os.EX_DATAERR, f"users file {path}: line {line} is not valid YAML") from None
    except ValidationError as error:
        raise StartError(os.EX_DATAERR, f"users file {path}: {describe(error)}") from None
    _check_unique(path, users)
    return users


def describe(error: ValidationError) -> str:
    """What pydantic found, in one line and without the input, which may hold secrets or a user's data."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(f"{'.'.join(map(str, each['loc'])) or 'document'}: {each['msg']}" for each in found)


def _check_mode(path: Path, mode: int) -> None:
    if stat.S_IMODE(mode) & 0o027:
        text = f"users file {path} holds secrets but is open to others (mode {stat.S_IMODE(mode):04o})"
        raise StartError(os.EX_NOPERM, f"{text}; run `chmod 600 {path}`")


def _check_unique(path: Path, users: Users) -> None:
    counts = (len(users._users), len(users._by_digest))
    if counts[0] != counts[1]:
        raise StartError(os.EX_DATAERR, f"users file {path}: two users share a token")
    if len(users._by_id) != counts[0] + len(users._secrets):
        raise StartError(os.EX_DATAERR, f"users file {path}: two users or clients share an id")


def _user_identity(username: str, entry: _User) -> Identity:
    linked = tuple((str(each.id), each.username) for each in entry.linked)
    email = entry.email or (username if "@" in username else "")
    return Identity(str(entry.id), username, entry.name or username, email, entry.organization, linked)


def _client_identity(client: str) -> Identity:
    username = f"{client}@{CLIENT_DOMAIN}"
    return Identity(client, username, username, username, "")
