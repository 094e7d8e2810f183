"""Who may use the service: people and clients, looked up by the token or secret that they show."""

from __future__ import annotations

import hmac
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from twinlock_service.users.digests import digest, token_id
from twinlock_service.users.users_file import ClientEntry, UserEntry, UsersFile, read_users_file

CLIENT_DOMAIN = "clients.auth.globus.org"

_DAY = 24 * 3600.0

NEVER = float("inf")
"""When a client's secret expires."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Someone who is logged in: a user, or a confidential client."""

    id: str
    """A uuid."""
    username: str
    name: str
    email: str
    organization: str
    """Where the user works; empty if nobody said."""
    linked: tuple[tuple[str, str], ...] = ()
    """Further identities of the same person: uuid and username of each."""
    administrator: bool = False
    """Whether the service's page shows this person what all users have."""

    @property
    def ids(self) -> frozenset[str]:
        """The uuids of all identities of this person."""
        return frozenset({self.id, *(linked for linked, _ in self.linked)})

    def identity_set(self) -> list[dict[str, Any]]:
        """Return all identities, the effective one first, in the form that Globus Auth and start commands give them."""
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


@dataclass(frozen=True, slots=True)
class Login:
    """A token or secret of the users file."""

    identity: Identity
    """Whose it is."""
    credential: str
    """The digest of the token or secret: all that it gave access to ends with it."""
    expires: float
    """In seconds since the epoch."""

    @property
    def expired(self) -> bool:
        """Whether it is too old."""
        return time.time() >= self.expires

    def expiry(self) -> str:
        """Return when it expires, as a text for people."""
        return datetime.fromtimestamp(self.expires, UTC).strftime("%Y-%m-%d %H:%M UTC")


class Users:
    """The users and clients of a users file."""

    def __init__(self, document: UsersFile, first_seen: Callable[[str], float] | None = None) -> None:
        """`first_seen` returns, for the digest of a hand-written token, since when that token has been in use."""
        self.settings = document.service
        """The section `service` of the users file."""
        self._first_seen = first_seen or (lambda _: time.time())
        self._by_hand = document.service.token_days * _DAY
        users = [self._logins(name, entry) for name, entry in document.users.items()]
        self._by_token = {token_id(login.credential): login for _, logins in users for login in logins}
        self._clients = {str(client): _client_login(str(client), entry) for client, entry in document.clients.items()}
        people = [identity for identity, _ in users] + [login.identity for login in self._clients.values()]
        self._by_id = {each.id: each for each in people}
        self._by_credential = {each.credential: each for each in (*self._by_token.values(), *self._clients.values())}

    def by_token(self, token: str) -> Login | None:
        """Return the login of the user whose bearer token this is, or None; it may have expired."""
        shown = digest(token)
        login = self._by_token.get(token_id(shown))
        return login if login and hmac.compare_digest(login.credential, shown) else None

    def by_secret(self, client: str, secret: str) -> Login | None:
        """Return the login of the confidential client, or None if the secret isn't that client's."""
        login = self._clients.get(client)
        return login if login and hmac.compare_digest(login.credential, _of_client(client, secret)) else None

    def by_id(self, identity: str) -> Identity | None:
        """Return the user or client with this identity uuid, or None."""
        return self._by_id.get(identity)

    def by_credential(self, credential: str) -> Login | None:
        """Return the login with this credential, or None if there is none or it has expired."""
        login = self._by_credential.get(credential)
        return None if login is None or login.expired else login

    def _logins(self, name: str, entry: UserEntry) -> tuple[Identity, list[Login]]:
        identity = _user_identity(name, entry)
        logins = [Login(identity, token.sha256, token.expires.timestamp()) for token in entry.tokens]
        if entry.token is not None:
            by_hand = digest(entry.token.get_secret_value())
            logins.append(Login(identity, by_hand, self._first_seen(by_hand) + self._by_hand))
        return identity, logins


def load_users(path: Path) -> Users:
    """Read the users file, its hand-written tokens as if seen for the first time.

    Raise `StartError` as `read_users_file` does.
    """
    return Users(read_users_file(path))


def _user_identity(username: str, entry: UserEntry) -> Identity:
    linked = tuple((str(each.id), each.username) for each in entry.linked)
    email = entry.email or (username if "@" in username else "")
    name = entry.name or username
    return Identity(str(entry.id), username, name, email, entry.organization, linked, entry.administrator)


def _client_login(client: str, entry: ClientEntry) -> Login:
    username = f"{client}@{CLIENT_DOMAIN}"
    identity = Identity(client, username, username, username, "")
    return Login(identity, _of_client(client, entry.secret.get_secret_value()), NEVER)


def _of_client(client: str, secret: str) -> str:
    # With the id, since two clients may have the same secret.
    return digest(f"{client}:{secret}")
