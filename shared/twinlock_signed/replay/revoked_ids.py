"""What a user has revoked: ids of delegations, or all that were issued before a time, in a file of the user's own.

```
# a laptop was stolen
before 2026-11-29T18:00:00Z
4f1c3a0b6c1e4d5f8a7b9c0d1e2f3a4b
```
"""

import calendar
import re
import time
from pathlib import Path
from typing import NamedTuple

from twinlock_signed import regular_file
from twinlock_signed.delegation import Delegation
from twinlock_signed.errors import ConfigError, Refused

PLACE = "~/.config/twinlock/revoked"

_MOST = 1 << 20
"""Bytes of the file."""

_LINE = re.compile(r"(?P<id>[0-9a-f]{32})|before[ \t]+(?P<time>\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z)")


class Revoked(NamedTuple):
    """What a user has revoked."""

    ids: frozenset[str]
    before: int
    """Seconds since 1970: each delegation that was issued before."""


def read(path: Path) -> Revoked:
    """Return what the file at `path` revokes: nothing if it isn't there.

    Raise `ConfigError` if it can't be read or understood: then it might revoke anything.
    """
    try:
        if not _is_there(path):
            return Revoked(frozenset(), 0)
        text = regular_file.read(path, _MOST)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; correct that, until then nothing runs") from error
    return parse(path, text)


def parse(path: Path, text: bytes) -> Revoked:
    """Return what the text of the file at `path` revokes. Raise `ConfigError` if it can't be understood."""
    ids, before = set(), 0
    for number, line in enumerate(text.decode("utf-8", "replace").split("\n"), 1):
        words = line.partition("#")[0].strip()
        if not words:
            continue
        found = _LINE.fullmatch(words)
        if found is None:
            raise ConfigError(
                f"{path}: line {number} is neither a delegation's id nor `before 2026-11-29T18:00:00Z`; "
                "correct it, until then nothing runs"
            )
        if found["id"]:
            ids.add(found["id"])
        else:
            before = max(before, _moment(path, number, found["time"]))
    return Revoked(frozenset(ids), before)


def check(delegation: Delegation, revoked: Revoked) -> None:
    """Raise `Refused` if the user has revoked the delegation."""
    if delegation.id in revoked.ids or delegation.issued < revoked.before:
        raise Refused(f"The delegation {delegation.id} is revoked by {PLACE}; start a new session")


def _is_there(path: Path) -> bool:
    """Return whether the file may be there: a link that leads nowhere may lead to a disk that isn't mounted.

    Raise `OSError` if that can't be known. `Path.exists` and `os.path.lexists` aren't used for `path` itself: to them a
    file system that fails has no file.
    """
    try:
        path.lstat()
    except FileNotFoundError:
        return any(folder.is_symlink() and not folder.exists() for folder in path.parents)
    return True


def _moment(path: Path, number: int, text: str) -> int:
    try:
        return calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ"))
    except ValueError:
        raise ConfigError(
            f"{path}: line {number}: there is no such time; correct it, until then nothing runs"
        ) from None
