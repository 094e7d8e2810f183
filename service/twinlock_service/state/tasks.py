"""The tables of task groups and tasks."""

from __future__ import annotations

import sqlite3
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from twinlock_service.state.database import transaction

PAGE = 5_000
"""How many tasks are looked up at once."""

COUNTED = 10_000
"""Of how many tasks the states are counted for the page."""

Status = Literal["waiting-for-ep", "success", "failed"]


@dataclass(frozen=True, slots=True)
class Task:
    """One task."""

    id: str
    group_id: str
    owner: str
    """Identity uuid of who submitted it."""
    endpoint_id: str
    """The endpoint that runs it, which may be deleted since."""
    function_id: str
    status: Status
    submitted: float
    """In seconds since the epoch."""
    completed: float | None
    """In seconds since the epoch; None before there is a result."""
    result: bytes | None
    """The packed Result message; None until there is one."""
    forwarded: bool
    """The result was offered to the SDK's queue."""


class Tasks:
    """The tasks and their groups."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def new_group(self, owner: str) -> str:
        """Make a task group, and return its uuid."""
        group = str(uuid.uuid4())
        self._db.execute("INSERT INTO task_groups VALUES (?, ?, ?)", (group, owner, time.time()))
        return group

    def group_owner(self, group: str) -> str | None:
        """Return the identity whose task group it is, or None if there is no such group."""
        row = self._db.execute("SELECT owner FROM task_groups WHERE id = ?", (group,)).fetchone()
        return row["owner"] if row else None

    def group(self, group: str) -> list[str]:
        """Return the tasks of a group, in the order in which they came."""
        return [task for page in self.group_pages(group) for task in page]

    def group_pages(self, group: str) -> Iterator[list[str]]:
        """Yield the tasks of a group in lists of at most `PAGE`, since there may be very many."""
        query = "SELECT rowid, id FROM tasks WHERE group_id = ? AND rowid > ? ORDER BY rowid LIMIT ?"
        last = -1
        while rows := self._db.execute(query, (group, last, PAGE)).fetchall():
            yield [row["id"] for row in rows]
            last = rows[-1]["rowid"]

    def add(self, group: str, owner: str, endpoint: str, function: str) -> str:
        """Add a task that waits for its endpoint, and return its uuid."""
        task = str(uuid.uuid4())
        columns = "(id, group_id, owner, endpoint_id, function_id, submitted)"
        values = (task, group, owner, endpoint, function, time.time())
        self._db.execute(f"INSERT INTO tasks {columns} VALUES (?, ?, ?, ?, ?, ?)", values)  # noqa: S608
        return task

    def forget(self, tasks: Iterable[str]) -> None:
        """Delete tasks that could not be handed to RabbitMQ, unless they have ended meanwhile."""
        query = "DELETE FROM tasks WHERE id = ? AND status = 'waiting-for-ep'"
        with transaction(self._db):
            self._db.executemany(query, [(task,) for task in tasks])

    def get(self, task: str) -> Task | None:
        """Return the task with this uuid, or None."""
        row = self._db.execute("SELECT * FROM tasks WHERE id = ?", (task,)).fetchone()
        return Task(**{**dict(row), "forwarded": bool(row["forwarded"])}) if row else None

    def outstanding(self, endpoint: str, limit: int = -1) -> list[str]:
        """Return the tasks of an endpoint that have no result yet, at most `limit` of them unless it is negative."""
        query = "SELECT id FROM tasks WHERE endpoint_id = ? AND status = 'waiting-for-ep' ORDER BY rowid LIMIT ?"
        return [row["id"] for row in self._db.execute(query, (endpoint, limit))]

    def outstanding_count(self, endpoint: str) -> int:
        """Return how many tasks of an endpoint have no result yet."""
        query = "SELECT count(*) FROM tasks WHERE endpoint_id = ? AND status = 'waiting-for-ep'"
        return int(self._db.execute(query, (endpoint,)).fetchone()[0])

    def finish(self, task: str, status: Status, result: bytes) -> bool:
        """Record how a task ended. Return False and change nothing if it had ended before."""
        query = "UPDATE tasks SET status = ?, completed = ?, result = ? WHERE id = ? AND status = 'waiting-for-ep'"
        return self._db.execute(query, (status, time.time(), result, task)).rowcount == 1

    def is_unforwarded(self, task: str) -> bool:
        """Return whether a task has ended and its result was not yet offered to the SDK."""
        query = "SELECT 1 FROM tasks WHERE id = ? AND status <> 'waiting-for-ep' AND forwarded = 0"
        return self._db.execute(query, (task,)).fetchone() is not None

    def unforwarded(self, limit: int) -> list[str]:
        """Return at most `limit` tasks that have ended and whose result was not yet offered to the SDK."""
        query = "SELECT id FROM tasks WHERE status <> 'waiting-for-ep' AND forwarded = 0 LIMIT ?"
        return [row["id"] for row in self._db.execute(query, (limit,))]

    def mark_forwarded(self, tasks: Iterable[str]) -> None:
        """Record that the results of these tasks were offered to the SDK."""
        self._db.executemany("UPDATE tasks SET forwarded = 1 WHERE id = ?", [(task,) for task in tasks])

    def counts(self, owner: str | None = None) -> dict[str, int]:
        """Count by status the newest `COUNTED` tasks, of one owner or of all."""
        newest = f"SELECT status FROM tasks {_newest(owner)}"  # noqa: S608
        query = f"SELECT status, count(*) FROM ({newest}) GROUP BY status"  # noqa: S608
        return {row[0]: row[1] for row in self._db.execute(query, {"owner": owner, "count": COUNTED})}

    def latest(self, count: int, owner: str | None = None) -> list[Task]:
        """Return the newest tasks of one owner or of all, the newest first, without their results."""
        columns = (
            "id, group_id, owner, endpoint_id, function_id, status, submitted, completed, NULL AS result, forwarded"
        )
        query = f"SELECT {columns} FROM tasks {_newest(owner)}"  # noqa: S608
        return [Task(**dict(row)) for row in self._db.execute(query, {"owner": owner, "count": count})]


def _newest(owner: str | None) -> str:
    """Return the end of a query for the newest `:count` tasks, which uses an index: there may be millions of tasks."""
    return ("ORDER BY rowid" if owner is None else "WHERE owner = :owner ORDER BY submitted") + " DESC LIMIT :count"
