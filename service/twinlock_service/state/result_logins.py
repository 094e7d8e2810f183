"""The RabbitMQ users with which SDK users read results: one for each token or secret, and no older than that."""

from __future__ import annotations

import secrets
import sqlite3
from dataclasses import dataclass

from twinlock_service.users.digests import token_id
from twinlock_service.users.directory import Login


@dataclass(frozen=True, slots=True)
class ResultLogin:
    """One RabbitMQ user."""

    name: str
    """That of the RabbitMQ user."""
    owner: str
    """The identity uuid of whose results it may read."""
    credential: str
    """What it was given for; empty where a former version of the service made it."""
    password: str


class ResultLogins:
    """The table of these RabbitMQ users."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def of(self, login: Login) -> ResultLogin:
        """Return the RabbitMQ user that belongs to a login; it is recorded on first use."""
        name = f"user.{login.identity.id}.{token_id(login.credential)}"
        values = (name, login.identity.id, login.credential, secrets.token_urlsafe(24))
        self._db.execute("INSERT INTO result_logins VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING", values)
        row = self._db.execute("SELECT * FROM result_logins WHERE name = ?", (name,)).fetchone()
        return ResultLogin(**dict(row))

    def all(self) -> list[ResultLogin]:
        """Return all RabbitMQ users that are recorded."""
        return [ResultLogin(**dict(row)) for row in self._db.execute("SELECT * FROM result_logins")]

    def forget(self, login: ResultLogin) -> None:
        """Delete the record of a RabbitMQ user that was deleted in RabbitMQ."""
        self._db.execute("DELETE FROM result_logins WHERE name = ?", (login.name,))
