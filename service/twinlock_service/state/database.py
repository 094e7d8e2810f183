"""The SQLite file that holds everything the service must not forget."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

from twinlock_service.errors import StartError
from twinlock_service.state.private_files import open_private

VERSION = 2

# Tokens of version 1 didn't say which secret they came from; clients log in again by themselves. RabbitMQ users of
# version 1 belong to no token; without one they are deleted there as well.
_FROM_1 = (
    "DROP TABLE tokens;",
    "INSERT INTO result_logins SELECT 'user.' || owner, owner, '', password FROM amqp_users; DROP TABLE amqp_users;",
)


def open_database(path: Path) -> sqlite3.Connection:
    """Open or make the database, readable by its owner only.

    Raise `StartError` if the file isn't a database, is one of another version, or is a symbolic link.
    """
    # Made before SQLite sees it: SQLite gives its -wal and -shm files the mode of the database.
    open_private(path, "a").close()
    db = sqlite3.connect(path, isolation_level=None)
    db.row_factory = sqlite3.Row
    try:
        _prepare(db)
    except (sqlite3.DatabaseError, StartError) as error:
        db.close()
        raise StartError(os.EX_DATAERR, f"state {path}: {error}; move it away to start from nothing") from None
    return db


def _prepare(db: sqlite3.Connection) -> None:
    # FULL: what was acknowledged to RabbitMQ is on the disk, not in the page cache.
    db.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;")
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version not in (0, 1, VERSION):
        raise StartError(os.EX_DATAERR, f"it is of version {version}, this program knows version {VERSION}")
    schema = files(__package__).joinpath("schema.sql").read_text()
    before, after = _FROM_1 if version == 1 else ("", "")
    db.executescript(f"BEGIN; {before} {schema} {after} PRAGMA user_version = {VERSION}; COMMIT;")


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """Run the block as one transaction.

    What it changes is committed, and on the disk, when it ends, and undone if it raises an exception.
    """
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")
