"""The reading of the journal's files at the start of an endpoint: the tasks that its predecessors left unfinished."""

import logging
from collections import OrderedDict
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twinlock_endpoint.errors import JournalError
from twinlock_endpoint.home import obstacles
from twinlock_endpoint.journal import frames, records
from twinlock_endpoint.journal.index import Index, Place
from twinlock_endpoint.journal.records import Kind
from twinlock_endpoint.journal.segments import numbers, path_of
from twinlock_endpoint.task import Task

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Unfinished:
    """What the journal has of an unfinished task."""

    task: Task | None = None
    """None if its record was damaged."""
    attempts: int = 0
    """How often it may have begun."""
    result: bytes | None = None
    """Its packed result; None if there was none yet."""
    tried: bool = False
    """`attempts` comes from a newer record than the task itself."""
    sure: bool = False
    """`attempts` is exact, whatever the engine noted of what it sent to workers."""


class Reader:
    """The reader of the files in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.index = Index()
        """Where the records of unfinished tasks are."""
        self.unfinished: dict[str, Unfinished] = {}
        """The unfinished tasks, by id."""
        self.done: OrderedDict[str, None] = OrderedDict()
        """Tasks that were done, the last ones last; a delivery of theirs may come once more."""

    def read(self, dispatched: Set[str] | None) -> None:
        """Read all files.

        `dispatched` is what the last engine sent to workers; with None, any task may have begun. Raise `JournalError`
        if a newer version wrote the files, or they can't be read at all.
        """
        found = numbers(self.folder)
        for number in found:
            path = path_of(self.folder, number)
            try:
                data = path.read_bytes()
            except OSError as error:
                raise JournalError(f"The endpoint's journal can't be read: {obstacles.explain(path, error)}") from error
            self._check(number, data)
            self._segment(number, data, last=number == found[-1])
        for task_id, entry in self.unfinished.items():
            if dispatched is not None and task_id not in dispatched and entry.attempts and not entry.sure:
                entry.attempts -= 1

    def _check(self, number: int, data: bytes) -> None:
        version = frames.version(data)
        if version is not None and version > frames.VERSION:
            raise JournalError(
                f"The endpoint's journal was written by a newer version of this program (format {version}, this one "
                f"knows {frames.VERSION}). Use that version until its tasks are done, or remove the folder 'journal' "
                "in the endpoint's folder to give them up."
            )
        if version is None and len(data) >= len(frames.HEADER):
            log.error("The journal's file %d has no sound beginning; what can be read of it is used", number)

    def _segment(self, number: int, data: bytes, *, last: bool) -> None:
        for found in frames.frames(data):
            if found.payload is not None:
                self._record(found.payload, Place(number, found.offset, found.length))
            elif last and found.offset + found.length == len(data):
                log.warning("The journal ends with %d bytes of a record that wasn't written to its end", found.length)
            else:
                log.error(
                    "The journal's file %d is damaged: %d bytes at %d can't be read, and a task may be lost with them",
                    *(number, found.length, found.offset),
                )

    def _record(self, payload: bytes, place: Place) -> None:
        try:
            kind, task_id, rest = records.read(payload)
            self._apply(kind, task_id, rest)
        except ValueError as error:
            log.error("The journal's file %d has at %d something unknown: %s", place.segment, place.offset, error)
        else:
            self.index.note(kind, task_id, place)

    def _apply(self, kind: Kind, task_id: str, rest: list[Any]) -> None:
        if kind is Kind.DONE:
            self.unfinished.pop(task_id, None)
            self.done[task_id] = None
            return
        entry = self.unfinished.setdefault(task_id, Unfinished())
        if kind is Kind.TAKEN:
            entry.task, attempts = records.task(task_id, rest)
            entry.attempts = entry.attempts if entry.tried else attempts
        elif kind is Kind.TRIED:
            entry.attempts, entry.sure = records.attempts(rest)
            entry.tried = True
        else:
            entry.result = records.result(rest)
