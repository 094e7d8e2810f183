"""Access tokens that confidential clients were given, kept by their digest."""

from __future__ import annotations

import secrets
import sqlite3
import time
from dataclasses import dataclass

from twinlock_service.users import digest

LIFETIME = 48 * 3600
"""Seconds that a token is good for, as Globus Auth has it."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token stands for: a client, towards one resource server."""

    client: str
    resource_server: str


class Tokens:
    """The issued tokens."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def issue(self, client: str, resource_server: str) -> str:
        """Makes a token; forgets those that have expired."""
        token = secrets.token_urlsafe(36)
        now = time.time()
        self._db.execute("DELETE FROM tokens WHERE expires < ?", (now,))
        self._db.execute(
            "INSERT INTO tokens VALUES (?, ?, ?, ?)", (digest(token), client, resource_server, now + LIFETIME)
        )
        return token

    def find(self, token: str) -> Grant | None:
        """What the token stands for, if it was issued here and has not expired."""
        query = "SELECT client, resource_server FROM tokens WHERE digest = ? AND expires >= ?"
        row = self._db.execute(query, (digest(token), time.time())).fetchone()
        return Grant(row["client"], row["resource_server"]) if row else None
