"""Delegations that this computer has made: what a user needs to know to revoke one. None of it is secret."""

import contextlib
import json
import logging
import time
from typing import NamedTuple

from twinlock_signed.delegation import Delegation

from twinlock_client.records import files

log = logging.getLogger(__name__)

_NAME = "delegations"

_MOST = 1000
"""Lines of the file, before those that have expired are removed."""


class Issued(NamedTuple):
    """A delegation that was made."""

    id: str
    account: str
    """Account and site."""
    manager: str
    """The uuid of the manager endpoint."""
    issued: int
    """Seconds since 1970."""
    expires: int
    """Seconds since 1970."""


def add(made: Delegation) -> None:
    """Record a delegation. What fails is logged: it needn't be known here to be of use."""
    path = files.state(_NAME)
    line = json.dumps([made.id, made.account, made.manager, made.issued, made.expires])
    try:
        if len(files.read(path)) >= _MOST:
            files.replace(path, [json.dumps(each) for each in read()])
        files.append(path, [line])
    except OSError as error:
        log.warning("%s: %s; `twinlock-client show` won't list the delegation", path, error.strerror)


def read() -> list[Issued]:
    """Return those that are valid, the oldest first. Raise `OSError` if the file can't be read."""
    found = []
    for line in files.read(files.state(_NAME)):
        with contextlib.suppress(ValueError, TypeError):
            found.append(Issued(*json.loads(line)))
    return [each for each in found if _is_whole(each) and each.expires > time.time()]


def _is_whole(found: Issued) -> bool:
    return [type(part) for part in found] == [str, str, str, int, int]
