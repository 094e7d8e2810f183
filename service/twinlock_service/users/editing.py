"""Changes to the users file: one at a time, checked, and all at once, so that the service never reads half of one."""

from __future__ import annotations

import fcntl
import grp
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from twinlock_service.errors import StartError
from twinlock_service.users.digests import digest
from twinlock_service.users.users_file import load_yaml, parse, read_users_file, unreadable

GROUP = "twinlock-service"
"""The group of the packaged service. A users file that root makes is readable for it, where there is such a group."""

HEADER = "# Rewritten by `twinlock-service user`, which drops comments. The service follows each change.\n"


@contextmanager
def edited(path: Path, *, create: bool = False) -> Iterator[dict[str, Any]]:
    """Yield the users by name, as the file has them, to be changed in the block.

    The file is written when the block ends without an error. Tokens that were written by hand are replaced by their
    digests. With `create` the file and its folder needn't exist yet. Raise `StartError` if the file or the change is
    no good, or `OSError`.
    """
    path = path.resolve()
    with _locked(path, create=create):
        document = {} if create and not path.exists() else _read(path)
        users = document.setdefault("users", {})
        yield users
        parse(path, document)
        _replace(path, HEADER + yaml.safe_dump(document, sort_keys=False, allow_unicode=True))


def new_token(days: int) -> tuple[str, dict[str, Any]]:
    """Return a new token that is good for so many days, and its entry in the file."""
    token = secrets.token_urlsafe(32)
    return token, _entry(token, days)


def _entry(token: str, days: int) -> dict[str, Any]:
    now = datetime.now(UTC).replace(microsecond=0)
    expires = now + timedelta(days=days)
    return {"sha256": digest(token), "created": now.isoformat(), "expires": expires.isoformat()}


@contextmanager
def _locked(path: Path, *, create: bool) -> Iterator[None]:
    """Hold the lock of the file's folder, since the file itself is replaced. With `create` the folder is made."""
    try:
        if create and not path.parent.exists():
            path.parent.mkdir(exist_ok=True)
        descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise unreadable(path, error) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _read(path: Path) -> dict[str, Any]:
    days = read_users_file(path).service.token_days
    document = dict(load_yaml(path, path.read_bytes()))
    for entry in document.get("users", {}).values():
        if entry.get("token") is not None:
            entry["tokens"] = [*entry.get("tokens", []), _entry(entry.pop("token"), days)]
    return document


def _replace(path: Path, text: str) -> None:
    """Write the file anew, with its owner and mode as they were, through a file beside it."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        file = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except PermissionError:
        text = f"the folder of the users file, {path.parent}, isn't yours to write; run this as its owner or as root"
        raise StartError(os.EX_NOPERM, text) from None
    try:
        with os.fdopen(file, "w") as writer:
            _set_owner(writer.fileno(), path)
            writer.write(text)
            writer.flush()
            os.fsync(writer.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink()
        raise


def _set_owner(file: int, path: Path) -> None:
    if path.exists():
        before = path.stat()
        _give(file, before.st_uid, before.st_gid)
        os.fchmod(file, before.st_mode & 0o777)
    elif os.geteuid() == 0 and GROUP in {each.gr_name for each in grp.getgrall()}:
        os.fchown(file, 0, grp.getgrnam(GROUP).gr_gid)
        os.fchmod(file, 0o640)


def _give(file: int, uid: int, gid: int) -> None:
    made = os.fstat(file)
    if (made.st_uid, made.st_gid) == (uid, gid):
        return
    try:
        os.fchown(file, uid, gid)
    except PermissionError:
        text = f"only root and its owner (uid {uid}) may change the users file; run this as one of them"
        raise StartError(os.EX_NOPERM, text) from None
