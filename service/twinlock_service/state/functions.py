"""The table of functions."""

from __future__ import annotations

import json
import sqlite3
import time
import uuid
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Function:
    """A registered function."""

    id: str
    owner: str
    """Identity uuid."""
    registration: dict[str, Any]
    """What was registered, without the code."""
    code: str
    """One packed buffer of the SDK's serializer."""
    created: float
    """In seconds since the epoch."""

    @property
    def public(self) -> bool:
        """Whether everybody may run it."""
        return bool(self.registration.get("public"))


def pack_source(name: str, source: str) -> str:
    """Return source text as a packed buffer.

    It has the length, then the SDK's source-text format: `st`, the function's name, the text. The SDK leaves this step
    to the service when a function is registered with `serialized: false`.
    """
    buffer = f"st\n{name}:{source}"
    return f"{len(buffer)}\n{buffer}"


class Functions:
    """The functions."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def add(self, owner: str, registration: dict[str, Any], code: str) -> str:
        """Register a function, and return its uuid."""
        function = str(uuid.uuid4())
        values = (function, owner, json.dumps(registration), code, time.time())
        self._db.execute("INSERT INTO functions VALUES (?, ?, ?, ?, ?)", values)
        return function

    def get(self, function: str) -> Function | None:
        """Return the function with this uuid, or None."""
        row = self._db.execute("SELECT * FROM functions WHERE id = ?", (function,)).fetchone()
        return Function(**{**dict(row), "registration": json.loads(row["registration"])}) if row else None

    def delete(self, function: str) -> None:
        """Delete a function; its tasks stay."""
        self._db.execute("DELETE FROM functions WHERE id = ?", (function,))
