"""Access tokens that confidential clients were given, kept by their digest, and the age of tokens written by hand."""

from __future__ import annotations

import secrets
import sqlite3
import time
from dataclasses import dataclass

from twinlock_service.users.digests import digest

LIFETIME = 48 * 3600
"""Seconds that a token is good for, as Globus Auth has it."""

MOST = 1_000
"""Tokens of one client at a time; the oldest ends for another one."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token stands for."""

    credential: str
    """The digest of the client's secret, see `Login.credential`."""
    resource_server: str
    """The only server that takes the token, as globus-sdk names it."""


class Tokens:
    """The issued tokens."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def issue(self, credential: str, resource_server: str) -> str:
        """Make a token. Delete those that have expired, and this client's oldest if it has too many."""
        token = secrets.token_urlsafe(36)
        now = time.time()
        self._db.execute("DELETE FROM tokens WHERE expires < ?", (now,))
        too_many = "SELECT digest FROM tokens WHERE credential = ? ORDER BY expires DESC LIMIT -1 OFFSET ?"
        self._db.execute(f"DELETE FROM tokens WHERE digest IN ({too_many})", (credential, MOST - 1))  # noqa: S608
        self._db.execute(
            "INSERT INTO tokens VALUES (?, ?, ?, ?)", (digest(token), credential, resource_server, now + LIFETIME)
        )
        return token

    def find(self, token: str) -> Grant | None:
        """Return what the token stands for, or None if it wasn't issued here or has expired."""
        query = "SELECT credential, resource_server FROM tokens WHERE digest = ? AND expires >= ?"
        row = self._db.execute(query, (digest(token), time.time())).fetchone()
        return Grant(row["credential"], row["resource_server"]) if row else None

    def first_seen(self, token_digest: str) -> float:
        """Return when the service first read this hand-written token, in seconds since the epoch."""
        query = "INSERT INTO tokens_by_hand VALUES (?, ?) ON CONFLICT DO NOTHING"
        self._db.execute(query, (token_digest, time.time()))
        row = self._db.execute("SELECT first_seen FROM tokens_by_hand WHERE digest = ?", (token_digest,)).fetchone()
        return float(row["first_seen"])
