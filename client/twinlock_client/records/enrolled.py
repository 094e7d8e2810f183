"""Enrolled result keys: by account, site and manager endpoint the public half of the key that signs its results."""

import os
from pathlib import Path
from typing import NamedTuple

from twinlock_signed.errors import Refused
from twinlock_signed.statement import ED25519, UUID

from twinlock_client import user
from twinlock_client.records import files
from twinlock_client.user import User

_NAME = "enrolled"


class Enrolled(NamedTuple):
    """An enrolled key."""

    user: User
    manager: str
    """The uuid of the manager endpoint."""
    key: str
    """The public half, in hexadecimal digits."""


def read() -> list[Enrolled]:
    """Return all that is enrolled. Raise `Refused` if the file isn't as `add` writes it, `OSError` if it can't be read.

    A line that can't be read might be the one that counts, and without it any result would be believed.
    """
    path = files.config(_NAME)
    _check_own(path)
    found = []
    for number, line in enumerate(files.read(path), 1):
        words = line.split()
        if len(words) != 3 or not UUID.accepts(words[1]) or not ED25519.accepts(words[2]):
            raise Refused(f"{path}: line {number} is not an account, an endpoint and a key; correct or remove it")
        found.append(Enrolled(user.read(words[0]), words[1], words[2]))
    return found


def _check_own(path: Path) -> None:
    """Raise `Refused` if others could change whom the user believes, or if it is a link to what isn't there.

    Only a file that isn't there has no keys. One that can't be looked at might have some: that is an `OSError`.
    """
    try:
        path.lstat()
    except FileNotFoundError:
        return
    try:
        status = path.stat()
    except FileNotFoundError:  # on a disk that isn't mounted, say
        raise Refused(f"{path}: it is a link that leads nowhere; mount what it leads to, or remove it") from None
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise Refused(f"{path}: others could change it; look at it, then use `chmod 600` and `chown`")


def key(of: User, manager: str) -> str | None:
    """Return the key that was enrolled for an account and a manager endpoint; None if there is none."""
    return next((each.key for each in read() if (each.user, each.manager) == (of, manager)), None)


def add(new: Enrolled, *, instead: bool = False) -> None:
    """Enroll a key. Raise `Refused` if another one is enrolled, unless it may be put `instead`."""
    path = files.config(_NAME)
    with files.locked(path):
        others = [each for each in read() if (each.user, each.manager) != (new.user, new.manager)]
        known = key(new.user, new.manager)
        if known not in (None, new.key) and not instead:
            raise Refused(
                f"{new.user}: another key is enrolled for the endpoint {new.manager} ({known}, and this is {new.key}); "
                "ask your site whether it is new, then use --replace"
            )
        files.replace(path, [f"{each.user} {each.manager} {each.key}" for each in [*others, new]])
