"""The table of endpoints: manager endpoints, single-user endpoints and the user endpoints of managers."""

from __future__ import annotations

import hashlib
import json
import secrets
import sqlite3
import time
import uuid
from dataclasses import dataclass
from typing import Any, Literal

from twinlock_service.errors import ApiError, Code
from twinlock_service.users.directory import Identity

Kind = Literal["manager", "single", "user"]

MISSED_HEARTBEATS = 3
"""An endpoint is offline when this many heartbeats in a row did not come."""

LOCK_SECONDS = 30.0
"""How long a stopped endpoint can't register again."""

MAX_ENDPOINTS = 1_000
"""Endpoints of one owner; each has a user, an exchange and queues in RabbitMQ."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One endpoint, as the table has it."""

    id: str
    kind: Kind
    owner: str
    """Identity uuid; of a user endpoint, the user's."""
    parent: str | None
    """The manager endpoint of a user endpoint."""
    registration: dict[str, Any]
    """What was registered; of a user endpoint, its user_endpoint_config."""
    password: str
    """That of its RabbitMQ user."""
    created: float
    """In seconds since the epoch, as the other times are."""
    locked_until: float
    """Until then it can't register again."""
    last_report: float | None
    """When the last status report came; None before the first one."""
    heartbeat_period: float
    """In seconds; 0 after it said that it shuts down, or failed to start."""
    report: dict[str, Any]
    """The `global_state` of that report."""

    @property
    def online(self) -> bool:
        """Whether it said so, and recently enough for the period that it named."""
        if self.last_report is None or self.heartbeat_period <= 0:
            return False
        return time.time() - self.last_report < MISSED_HEARTBEATS * self.heartbeat_period

    @property
    def status(self) -> Literal["online", "offline"]:
        """The same in the words of the hosted service."""
        return "online" if self.online else "offline"

    @property
    def name(self) -> str:
        """What people call it; of a user endpoint, what its manager is told to call it."""
        if self.kind == "user":
            return f"uep.{self.parent}.{self.id}"
        return str(self.registration.get("display_name") or self.registration["endpoint_name"])

    @property
    def allowed_functions(self) -> list[str] | None:
        """The only functions that may run there, or None: any."""
        return self.registration.get("allowed_functions") or None

    def owned_by(self, caller: Identity) -> bool:
        """Return whether the endpoint is the caller's own."""
        return self.owner in caller.ids

    def managed_by(self, caller: Identity) -> bool:
        """Return whether the caller may change, stop and delete it: the owner, and those whom the owner has named."""
        admins = self.registration.get("admins", []) if self.kind != "user" else []
        return not caller.ids.isdisjoint({self.owner, *admins})

    def usable_by(self, caller: Identity) -> bool:
        """Return whether the caller may submit tasks to it: everybody where identities are mapped, else its owner."""
        if self.kind == "user":
            return False
        return bool(self.registration.get("multi_user")) or self.owned_by(caller)

    def visible_to(self, caller: Identity) -> bool:
        """Return whether the caller may know that the endpoint exists."""
        return self.managed_by(caller) or self.usable_by(caller)


def config_digest(config: dict[str, Any]) -> str:
    """Return a digest that is the same for equal user_endpoint_configs, whatever the order of their keys."""
    canonical = json.dumps(config, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def user_endpoint_id(manager: str, user: str, config: dict[str, Any]) -> str:
    """Return the uuid of the user endpoint that one user's one configuration has at a manager endpoint."""
    return str(uuid.uuid5(uuid.UUID(manager), f"{user}:{config_digest(config)}"))


class Endpoints:
    """The endpoints."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def number_of(self, owner: str) -> int:
        """Return how many endpoints somebody has, user endpoints included."""
        return int(self._db.execute("SELECT count(*) FROM endpoints WHERE owner = ?", (owner,)).fetchone()[0])

    def register(self, kind: Kind, owner: str, registration: dict[str, Any]) -> Endpoint:
        """Add an endpoint that someone registers."""
        return self._add(str(uuid.uuid4()), kind, owner, None, registration)

    def user_endpoint(self, manager: str, user: str, config: dict[str, Any]) -> Endpoint:
        """Return the user endpoint for this user and configuration; it is made on first use."""
        endpoint = user_endpoint_id(manager, user, config)
        known = self.get(endpoint)
        if known is not None:
            return known
        check_number(self.number_of(user))
        return self._add(endpoint, "user", user, manager, config)

    def _add(self, endpoint: str, kind: Kind, owner: str, parent: str | None, registration: dict[str, Any]) -> Endpoint:
        columns = "(id, kind, owner, parent, registration, password, created)"
        values = (endpoint, kind, owner, parent, json.dumps(registration), secrets.token_urlsafe(24), time.time())
        self._db.execute(f"INSERT INTO endpoints {columns} VALUES (?, ?, ?, ?, ?, ?, ?)", values)  # noqa: S608
        return self[endpoint]

    def update(self, endpoint: str, kind: Kind, registration: dict[str, Any]) -> Endpoint:
        """Record that an endpoint registers again, perhaps with another configuration."""
        query = "UPDATE endpoints SET kind = ?, registration = ? WHERE id = ?"
        self._db.execute(query, (kind, json.dumps(registration), endpoint))
        return self[endpoint]

    def get(self, endpoint: str) -> Endpoint | None:
        """Return the endpoint with this uuid, or None."""
        row = self._db.execute("SELECT * FROM endpoints WHERE id = ?", (endpoint,)).fetchone()
        return _endpoint(row) if row else None

    def __getitem__(self, endpoint: str) -> Endpoint:
        found = self.get(endpoint)
        if found is None:
            raise KeyError(endpoint)
        return found

    def owners(self) -> list[str]:
        """Return the identity uuids of all who have an endpoint."""
        return [row["owner"] for row in self._db.execute("SELECT DISTINCT owner FROM endpoints")]

    def owned_by(self, owner: str) -> list[str]:
        """Return the uuids of an identity's endpoints, the oldest first."""
        query = "SELECT id FROM endpoints WHERE owner = ? ORDER BY created"
        return [row["id"] for row in self._db.execute(query, (owner,))]

    def ids(self) -> list[str]:
        """Return the uuids of all endpoints, the oldest first."""
        return [row["id"] for row in self._db.execute("SELECT id FROM endpoints ORDER BY created")]

    def children(self, manager: str) -> list[str]:
        """Return the uuids of a manager endpoint's user endpoints."""
        return [row["id"] for row in self._db.execute("SELECT id FROM endpoints WHERE parent = ?", (manager,))]

    def reported(self, endpoint: str, period: float, report: str) -> None:
        """Record a status report, as JSON. `period` is in seconds, or 0 if no further report will follow."""
        query = "UPDATE endpoints SET last_report = ?, heartbeat_period = ?, report = ? WHERE id = ?"
        self._db.execute(query, (time.time(), period, report, endpoint))

    def lock(self, endpoint: str) -> Endpoint:
        """Keep an endpoint from registering for a while, and give it a new password."""
        query = "UPDATE endpoints SET locked_until = ?, heartbeat_period = 0, password = ? WHERE id = ?"
        self._db.execute(query, (time.time() + LOCK_SECONDS, secrets.token_urlsafe(24), endpoint))
        return self[endpoint]

    def renew_password(self, endpoint: str) -> None:
        """Give an endpoint's RabbitMQ user another password, for when that user is made again."""
        query = "UPDATE endpoints SET password = ? WHERE id = ?"
        self._db.execute(query, (secrets.token_urlsafe(24), endpoint))

    def delete(self, endpoint: str) -> None:
        """Delete an endpoint and its user endpoints."""
        self._db.execute("DELETE FROM endpoints WHERE id = ?", (endpoint,))


def check_number(number: int) -> None:
    """Raise `ApiError` 429 if `number` endpoints are so many that their owner can't have another one."""
    if number >= MAX_ENDPOINTS:
        text = f"you have {number:,} endpoints, including one for each user_endpoint_config; delete some to make room"
        raise ApiError(429, Code.REQUEST_MALFORMED, text)


def _endpoint(row: sqlite3.Row) -> Endpoint:
    values = dict(row)
    return Endpoint(
        **{**values, "registration": json.loads(values["registration"]), "report": json.loads(values["report"])}
    )
