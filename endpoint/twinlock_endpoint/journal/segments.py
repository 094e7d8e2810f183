"""The journal's files, NUMBER.journal in its folder: the last one grows, the first ones go when nobody needs them.

They go in their order only, so that a task's end never goes before its beginning. Where one task that runs for long
would keep a file, and with it all that follow, its records are copied to the end.
"""

import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from twinlock_common.files import sync

from twinlock_endpoint.journal import frames
from twinlock_endpoint.journal.index import Index, Place
from twinlock_endpoint.journal.records import Kind, Record

log = logging.getLogger(__name__)

SEGMENT = 4 << 20
"""Bytes after which a new file is begun."""

_SPARE = 4
"""Files that may be there beside twice what is needed, before records are copied."""

_AT_ONCE = 512  # buffers for one writev(2), whose limit is IOV_MAX
_SMALL = 1 << 17  # bytes that are copied together sooner than written from many places


def path_of(folder: Path, number: int) -> Path:
    """Return the path of a segment."""
    return folder / f"{number:08}.journal"


def numbers(folder: Path) -> list[int]:
    """Return the numbers of the segments in a folder, the oldest first."""
    return sorted(int(path.stem) for path in folder.glob("*.journal") if path.stem.isdigit())


class Segments:
    """The files, for one thread: everything here may block, and raises `OSError` if the disk fails."""

    def __init__(self, folder: Path, index: Index) -> None:
        """Begin behind the files that are there; `index` knows what is in them."""
        self._folder = folder
        self._index = index
        self._numbers = numbers(folder)
        self._last = max(self._numbers, default=0)
        self._file = -1
        self._size = 0

    def append(self, records: Sequence[Record]) -> None:
        """Write records behind each other; all of them, or none."""
        if self._file < 0 or self._size >= SEGMENT:
            self._begin()
        self._write([part for record in records for part in frames.parts(record.payload)])
        for record in records:
            length = frames.HEAD_LENGTH + len(record.payload)
            self._index.note(record.kind, record.task_id, Place(self._numbers[-1], self._size, length))
            self._size += length

    def has(self, task_id: str) -> bool:
        """Return whether anything of the task is in a file."""
        return task_id in self._index

    def sync(self) -> None:
        """Have the disk hold all that was written."""
        if self._file >= 0:
            os.fdatasync(self._file)

    def tidy(self) -> None:
        """Remove files that nobody needs; copy the records that keep the oldest one, if it is in the way."""
        self._drop()
        if len(self._numbers) > _SPARE + 2 * self._index.bytes // SEGMENT and self._file >= 0:
            self._copy_oldest()
            self._drop()

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            closed, self._file = self._file, -1
            with suppress(OSError):  # it is closed all the same, and was synced if that was possible
                os.close(closed)

    def _begin(self) -> None:
        self._last += 1  # the number of one that couldn't be made isn't used again: it may be there all the same
        path = path_of(self._folder, self._last)
        opened = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            _write_all(opened, [frames.HEADER])
            sync(self._folder)  # a new file may otherwise be gone with the host, however well its content was synced
            self.sync()
        except OSError:
            os.close(opened)
            path.unlink()
            raise
        self.close()
        self._file, self._size = opened, len(frames.HEADER)
        self._numbers.append(self._last)

    def _write(self, buffers: list[bytes]) -> None:
        try:
            if sum(map(len, buffers)) < _SMALL:
                _write_all(self._file, [b"".join(buffers)])
                return
            for number in range(0, len(buffers), _AT_ONCE):
                _write_all(self._file, buffers[number : number + _AT_ONCE])
        except OSError:
            self._cut_back()
            raise

    def _cut_back(self) -> None:
        """Remove what was written of records of which not all could be written.

        Where that fails too, it isn't known how long the file is, and so the next records go to another one.
        """
        try:
            os.ftruncate(self._file, self._size)
        except OSError:
            with suppress(OSError):
                self.sync()
            self.close()

    def _drop(self) -> None:
        """Remove the oldest files as long as nobody needs them.

        The newest one stays until this process has one of its own: what it says was done may be delivered once more.
        """
        while len(self._numbers) > 1 and not self._index.needs(self._numbers[0]) and self._file >= 0:
            path_of(self._folder, self._numbers[0]).unlink(missing_ok=True)
            del self._numbers[0]

    def _copy_oldest(self) -> None:
        oldest = self._numbers[0]
        with path_of(self._folder, oldest).open("rb") as file:
            copies = [self._copied(file.fileno(), *needed) for needed in list(self._index.of(oldest))]
        log.debug("%d records of the journal are copied out of its file %d", len(copies), oldest)
        self.append([copy for copy in copies if copy is not None])
        self.sync()

    def _copied(self, file: int, kind: Kind, task_id: str, place: Place) -> Record | None:
        payload = frames.payload(os.pread(file, place.length, place.offset), 0)
        if payload is None:
            log.error("What the journal has of task %s was damaged; should the endpoint die now, it is lost", task_id)
            self._index.forget(kind, task_id)
            return None
        return Record(kind, task_id, payload)


def _write_all(file: int, buffers: list[bytes]) -> None:
    written = os.writev(file, buffers)
    for buffer in buffers:
        if written < len(buffer):
            rest = memoryview(buffer)[written:]
            while rest:
                rest = rest[os.write(file, rest) :]
            written = 0
        else:
            written -= len(buffer)
