"""The users file: the service's settings, who may use it, and the digests of their tokens. Its models are its table."""

from __future__ import annotations

import os
import stat
import uuid
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from twinlock_common.unique_keys import DuplicateKeyError, UniqueKeyLoader

from twinlock_service.errors import StartError, validation_faults
from twinlock_service.users.digests import digest, token_id


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Settings(_Entry):
    """The section `service`. A field's title is the kind of its value, its description the meaning."""

    token_days: Annotated[
        int, Field(ge=1, le=3650, title="a number of days", description="how long a new token is valid")
    ] = 30
    hosts: Annotated[
        list[str],
        Field(
            title="a list of names",
            description="host names that clients may call the service by, beside localhost, this host's own name,"
            " `--host`, and the address that they connect to",
        ),
    ] = []
    tls_certificate: Annotated[
        Path | None,
        Field(title="a path", description="certificate and its chain, in PEM; with it there is HTTPS on `--host`"),
    ] = None
    tls_key: Annotated[Path | None, Field(title="a path", description="the certificate's key, in PEM")] = None
    tls_port: Annotated[int, Field(ge=1, le=65535, title="a TCP port", description="where HTTPS is")] = 5443

    @model_validator(mode="after")
    def _pair(self) -> Settings:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key belong together; set both or none")
        return self


class TokenEntry(_Entry):
    """A token, which only its user knows."""

    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    """Its digest, in hexadecimal digits."""
    created: AwareDatetime
    expires: AwareDatetime


class LinkedEntry(_Entry):
    """A further identity of the same person."""

    id: uuid.UUID
    username: str


class UserEntry(_Entry):
    """A person."""

    id: uuid.UUID
    name: str = ""
    email: str = ""
    organization: str = ""
    administrator: bool = False
    """Sees on the service's page what all users have."""
    token: SecretStr | None = Field(None, min_length=1)
    """One that somebody wrote by hand, in plain text."""
    tokens: list[TokenEntry] = []
    """Those that `twinlock-service user` made."""
    linked: list[LinkedEntry] = []
    """The other identities of this person."""


class ClientEntry(_Entry):
    """The login of a manager."""

    secret: SecretStr = Field(min_length=1)


class RabbitmqEntry(_Entry):
    """An administrator of the RabbitMQ that `--amqp URL` names."""

    user: str = Field(min_length=1)
    password: SecretStr = Field(min_length=1)


USER_NAME = r"^[^\s\x00-\x1f\x7f]{1,256}$"

UserName = Annotated[str, Field(pattern=USER_NAME)]


class UsersFile(_Entry):
    """The whole file."""

    service: Settings = Settings()
    users: dict[UserName, UserEntry] = {}
    """The users, by name."""
    clients: dict[uuid.UUID, ClientEntry] = {}
    """The logins of manager endpoints, by client id."""
    rabbitmq: RabbitmqEntry | None = None
    """Needed with `--amqp URL` only."""


def read_users_file(path: Path) -> UsersFile:
    """Read the users file.

    Raise `StartError` if it can't be read, if others can read it, or if its content isn't valid.
    """
    try:
        with path.open("rb") as file:
            _check_mode(path, os.fstat(file.fileno()).st_mode)
            text = file.read()
    except OSError as error:
        raise unreadable(path, error) from None
    return parse(path, load_yaml(path, text))


def unreadable(path: Path, error: OSError) -> StartError:
    """Return what is told of the users file `path`, or its folder, that can't be opened."""
    code = os.EX_NOPERM if isinstance(error, PermissionError) else os.EX_NOINPUT
    return StartError(code, f"users file {path}: {error.strerror}")


def load_yaml(path: Path, text: bytes) -> Any:
    """Return the YAML of the users file `path`. Raise `StartError` if it isn't YAML."""
    try:
        return yaml.load(text, UniqueKeyLoader) or {}  # noqa: S506 - a SafeLoader
    except DuplicateKeyError as error:
        # Without the key, which may be a secret in a wrong place.
        problem = f"line {error.line} has a key that is on line {error.first_line} already; remove one of the two"
        raise StartError(os.EX_DATAERR, f"users file {path}: {problem}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        # The text of a YAMLError quotes the file, which holds secrets.
        line = error.problem_mark.line + 1 if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark else "?"
        raise StartError(os.EX_DATAERR, f"users file {path}: line {line} is not valid YAML") from None


def parse(path: Path, document: Any) -> UsersFile:
    """Return the users file `path`, checked. Raise `StartError` if its content isn't valid."""
    try:
        parsed = UsersFile.model_validate(document)
    except ValidationError as error:
        raise StartError(os.EX_DATAERR, f"users file {path}: {validation_faults(error)}") from None
    _check_unique(path, parsed)
    return parsed


def digests(entry: UserEntry) -> list[str]:
    """Return the digests of a user's tokens, including one that was written by hand."""
    by_hand = [] if entry.token is None else [digest(entry.token.get_secret_value())]
    return by_hand + [token.sha256 for token in entry.tokens]


def _check_mode(path: Path, mode: int) -> None:
    if stat.S_IMODE(mode) & 0o027:
        text = f"users file {path} holds secrets but is open to others (mode {stat.S_IMODE(mode):04o})"
        raise StartError(os.EX_NOPERM, f"{text}; run `chmod 600 {path}`")


def _check_unique(path: Path, parsed: UsersFile) -> None:
    tokens = Counter(token_id(each) for entry in parsed.users.values() for each in digests(entry))
    if tokens and max(tokens.values()) > 1:
        raise StartError(os.EX_DATAERR, f"users file {path}: two users share a token, or one has it twice")
    ids = [entry.id for entry in parsed.users.values()] + list(parsed.clients)
    if len(ids) != len(set(ids)):
        raise StartError(os.EX_DATAERR, f"users file {path}: two users or clients share an id")
