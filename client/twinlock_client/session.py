"""A session: it makes delegations when they are needed, and signs tasks with their session keys."""

import fcntl
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol

from twinlock_signed import delegation, task
from twinlock_signed.errors import Refused
from twinlock_signed.statement import digest
from twinlock_signed.task import Task

from twinlock_client import delegations, ssh_keys
from twinlock_client.delegations import Delegated
from twinlock_client.records import issued
from twinlock_client.user import User

_RENEWED = 10
"""A delegation is used until one part in so many of its time is left."""


class Asked(NamedTuple):
    """What a task is to do, in the SDK's buffers."""

    function: str
    args: str
    kwargs: str
    resource_specification: dict[str, Any]
    result_serializers: list[str]


class Signed(NamedTuple):
    """A signed task."""

    texts: tuple[str, str, str, str]
    """The envelope: delegation, its signature, task, its signature."""
    digest: str
    """The SHA-256 of the task's statement, in hexadecimal digits."""


class Numbered:
    """A delegation whose tasks get numbers, each once."""

    def __init__(self, delegated: Delegated, numbers: Iterator[int]) -> None:
        self.delegated = delegated
        self._numbers = numbers
        self._digest = delegated.digest

    def sign(self, asked: Asked, lifetime: int | None) -> Signed:
        """Return the signed task. `lifetime` is in seconds; None is as long as the delegation's."""
        now, ends = int(time.time()), self.delegated.said.expires
        whole = Task(
            delegation=self._digest,
            number=next(self._numbers),  # one step of the interpreter: threads get different ones
            issued=now,
            expires=ends if lifetime is None else min(ends, now + lifetime),
            **asked._asdict(),
        )
        statement = _write(whole)
        texts = (self.delegated.statement, self.delegated.signature, statement.decode("ascii"))
        return Signed((*texts, task.sign(statement, self.delegated.key)), digest(statement))


class Session(Protocol):
    """Where delegations come from."""

    def numbered(self, manager: str, options: dict[str, Any] | None) -> Numbered:
        """Return a delegation for these options at a manager endpoint. Raise `Refused` if there is none."""

    def close(self) -> None:
        """Forget the session's keys."""


class SigningSession:
    """Makes a delegation for each endpoint and each set of options, and another one before it expires."""

    def __init__(self, user: User, key: str | Path | None, seconds: int, runtime: Callable[[], dict[str, Any]]) -> None:
        """Sign for `user` with the SSH key `key` (see `ssh_keys.choose`), each time for so many seconds."""
        self._user = user
        self._key = key
        self._seconds = seconds
        self._runtime = runtime
        self._made: dict[tuple[str, str], Numbered] = {}
        self._lock = threading.Lock()

    def numbered(self, manager: str, options: dict[str, Any] | None) -> Numbered:
        """Return a delegation for these options. The user may have to type a passphrase or to touch a key."""
        config = delegations.plain(options)
        place = (manager, delegation.options(config))
        with self._lock:
            known = self._made.get(place)
            if known is None or time.time() > known.delegated.said.expires - self._seconds / _RENEWED:
                made = delegations.make(
                    self._user, manager, config, self._runtime(), self._seconds, ssh_keys.choose(self._key)
                )
                issued.add(made.said)
                known = self._made[place] = Numbered(made, itertools.count())
            return known

    def close(self) -> None:
        """Forget the session's keys."""
        self._made.clear()


class SavedSession:
    """Uses a delegation that `twinlock-client delegate` has made, with one process at a time."""

    def __init__(self, path: Path) -> None:
        """Use the delegation in the file at `path`. Raise `Refused` if another process does, or it can't be used."""
        self.delegated = delegations.load(path)
        self._path = path
        self._file = _locked(path)
        # Those that processes before have used are lower, since no process submits a task each microsecond.
        self._numbered = Numbered(self.delegated, itertools.count(time.time_ns() // 1000))

    def numbered(self, manager: str, options: dict[str, Any] | None) -> Numbered:
        """Return the delegation. Raise `Refused` if it is for something else, or has expired."""
        said = self.delegated.said
        meant = delegation.options(said.user_endpoint_config)
        if (manager, delegation.options(delegations.plain(options))) != (said.manager, meant):
            raise Refused(
                f"{self._path}: it is for the endpoint {said.manager} with the options "
                f"{json.dumps(said.user_endpoint_config)[:300]}; use these, or `key` instead of `delegation`"
            )
        if time.time() >= said.expires:
            raise Refused(f"{self._path}: the delegation has expired; make a new one with `twinlock-client delegate`")
        return self._numbered

    def close(self) -> None:
        """Let others use the file."""
        self._file.close()


def _locked(path: Path) -> BinaryIO:
    """Return the file, which is locked until it is closed."""
    file = path.open("rb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise Refused(f"{path}: another session uses it; wait until that ends, or make another delegation") from None
    return file


def _write(whole: Task) -> bytes:
    try:
        return task.write(whole)
    except Refused:
        raise
    except (TypeError, ValueError, RecursionError) as error:
        raise Refused(f"resource_specification: JSON can't say it ({error}); use texts and numbers") from None
