"""Claims: the endpoint that takes a delegation first is the only one that does, and each number runs once.

The broker chooses the endpoints' names and hosts, so what one endpoint knows keeps no other from taking a delegation
again. All hosts of a manager endpoint share a folder. In it each delegation that was taken has a file, made with
O_EXCL: the endpoint's name in its first line, then a record for each number that was accepted. The endpoint keeps it
locked, and nobody removes it.

A folder that was lost would let all of that happen again. So a delegation that was issued before the folder was made
counts for nothing, but for the little time by which clocks may differ.
"""

import contextlib
import fcntl
import os
import secrets
import struct
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from twinlock_signed.delegation import SKEW, Delegation
from twinlock_signed.errors import ConfigError, Refused
from twinlock_signed.replay.ranges import Ranges
from twinlock_signed.statement import UUID
from twinlock_signed.trust import check_strict_modes

_MADE = "made"
"""The file with the time when the folder was made, in seconds since 1970."""

_RECORD = struct.Struct(">Q16s")
"""A number, and the uuid of the task that had it first."""

_NAME_LENGTH = len(f"{uuid.UUID(int=0)}\n")

_AT_ONCE = 4096 * _RECORD.size
"""Bytes that are read at once."""


class Claim:
    """A delegation that this process has taken. It is released when the process ends, or by `close`."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._numbers = Ranges()
        self._end = _NAME_LENGTH
        for number, _ in self._records():
            self._numbers.add(number)
            self._end += _RECORD.size
        # Half a record may follow. It was never synced, so its task didn't run, and the next record takes its place.

    def is_new(self, number: int, task_id: str) -> bool:
        """Return whether no task has the number; else the task of this uuid has it, and comes once more.

        Raise `Refused` if another task has it.
        """
        if number not in self._numbers:
            return True
        self._check_same(number, task_id)
        return False

    def admit(self, number: int, task_id: str) -> bool:
        """Record that a task of this uuid has the number; return what `is_new` does.

        The journal has to have the task before, and `sync` has to return before it runs: a crash in between neither
        loses it nor lets it run twice.

        Raises:
            Refused: another task has the number.
            OSError: the disk takes no record.
        """
        if not self.is_new(number, task_id):
            return False
        record = _RECORD.pack(number, uuid.UUID(task_id).bytes)
        if os.pwrite(self._descriptor, record, self._end) != len(record):
            raise OSError("a claim's record was cut off")
        self._end += len(record)
        self._numbers.add(number)
        return True

    def sync(self) -> None:
        """Wait until the disk has all that was recorded. Raise `OSError`."""
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        """Let go of the delegation, for the same endpoint's next process. Nothing can be recorded any more."""
        descriptor, self._descriptor = self._descriptor, -1  # or else a record could go to what has the number next
        os.close(descriptor)

    def _check_same(self, number: int, task_id: str) -> None:
        first = next(task for recorded, task in self._records() if recorded == number)
        if uuid.UUID(bytes=first) != uuid.UUID(task_id):
            raise Refused(
                f"This task is a copy of task {uuid.UUID(bytes=first)}, which was accepted before; "
                "see that one's result, or submit the function again"
            )

    def _records(self) -> Iterator[tuple[int, bytes]]:
        place = _NAME_LENGTH
        while block := os.pread(self._descriptor, _AT_ONCE, place):
            whole = len(block) - len(block) % _RECORD.size
            yield from _RECORD.iter_unpack(block[:whole])
            if whole == 0:
                return
            place += whole


@dataclass(frozen=True)
class Claims:
    """The folder with the claims of an account on one manager endpoint."""

    folder: Path
    """It belongs to the account."""
    made: int
    """When the folder was made, in seconds since 1970."""

    def take(self, digest: str, delegation: Delegation, endpoint: str) -> Claim:
        """Take a delegation for an endpoint, or take it again for the same one.

        Args:
            digest: the SHA-256 of the delegation's statement, in hexadecimal digits.
            delegation: as it has been verified.
            endpoint: the user endpoint's uuid, in small letters.

        Raises:
            Refused: it is older than the folder, or another endpoint or another process has it.
            ConfigError, OSError: the folder can't be used.
            ValueError: `endpoint` isn't a uuid in that form.
        """
        if not UUID.accepts(endpoint):
            raise ValueError(f"{endpoint!r} is not {UUID.words}")
        if delegation.issued < self.made - SKEW:
            raise Refused(
                f"The delegation was issued more than {SKEW} s before {self.folder} was made, so nobody knows whether "
                "it was used; start a new session"
            )
        path = self.folder / digest
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except FileExistsError:
            return _take_again(path, endpoint)
        return _take_first(descriptor, path, endpoint)


def open_claims(folder: Path, home: Path, now: float) -> Claims:
    """Return the claims in a folder, which is made if it isn't there.

    Args:
        folder: a folder of the account.
        home: the account's home. Only root and the account may write to the folder, and to what is above it up to the
            home or ``/``.
        now: the time in seconds since 1970.

    Raises:
        ConfigError: others could write to it, or it isn't what it should be.
        OSError: it can't be used.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    check_strict_modes(folder, home, os.geteuid())
    path = folder / _MADE
    if not path.exists():
        _write_made(path, int(now))
    text = path.read_bytes()[:20]
    if not text.isdigit():
        raise ConfigError(f"{path}: it is not a time in seconds; remove it, and delegations from before are refused")
    return Claims(folder, int(text))


def _write_made(path: Path, now: int) -> None:
    """Write the time. Of several processes the last one wins, which refuses no less than the others."""
    draft = path.with_name(f"{_MADE}.{secrets.token_hex(8)}")
    with draft.open("xb") as file:
        file.write(b"%d" % now)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    _sync_folder(path.parent)


def _take_first(descriptor: int, path: Path, endpoint: str) -> Claim:
    with _closed_on_error(descriptor):
        _lock(descriptor, path)
        os.pwrite(descriptor, f"{endpoint}\n".encode("ascii"), 0)
        os.fsync(descriptor)
        _sync_folder(path.parent)
        return Claim(descriptor)


def _take_again(path: Path, endpoint: str) -> Claim:
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    with _closed_on_error(descriptor):
        owner = os.pread(descriptor, _NAME_LENGTH, 0)
        if owner != f"{endpoint}\n".encode("ascii"):
            name = owner.decode("ascii", "replace").strip() or "an endpoint that ended at that moment"
            raise Refused(f"The delegation was taken by another endpoint before ({name}); start a new session")
        _lock(descriptor, path)
        return Claim(descriptor)


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Refused(f"Another process of this endpoint has the delegation ({path}); start a new session") from None
    except OSError as error:
        raise ConfigError(
            f"{path}: it can't be locked ({error.strerror}); put `claims` where all hosts have it, with locks"
        ) from error


@contextlib.contextmanager
def _closed_on_error(descriptor: int) -> Iterator[None]:
    try:
        yield
    except BaseException:
        os.close(descriptor)
        raise


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
