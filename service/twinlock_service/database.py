"""The SQLite file that holds everything the service must not forget."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

from twinlock_service.errors import StartError

VERSION = 1


def open_database(path: Path) -> sqlite3.Connection:
    """Opens or makes the database, readable by the owner only. StartError: not a database, or of another version."""
    # Made before SQLite sees it: SQLite gives its -wal and -shm files the mode of the database.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
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
    if version not in (0, VERSION):
        raise StartError(os.EX_DATAERR, f"it is of version {version}, this program knows version {VERSION}")
    db.executescript(files(__package__).joinpath("schema.sql").read_text())
    db.execute(f"PRAGMA user_version = {VERSION}")


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """All or nothing; committed, and on the disk, when the block ends."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")
