"""The journal of one endpoint, from the reading of what its predecessors left to its close."""

import asyncio
import logging
from collections.abc import Set
from functools import partial
from pathlib import Path

from twinlock_endpoint.errors import JournalError
from twinlock_endpoint.home import obstacles
from twinlock_endpoint.journal import dispatched, records
from twinlock_endpoint.journal.records import Kind, Record
from twinlock_endpoint.journal.recovery import Reader, Unfinished
from twinlock_endpoint.journal.segments import Segments
from twinlock_endpoint.journal.writer import Writer
from twinlock_endpoint.task import Task

log = logging.getLogger(__name__)


def read(folder: Path) -> Reader:
    """Return what the journal in the endpoint's folder says. Raise `JournalError` if it can't be used. It may block."""
    own = folder / "journal"
    try:
        own.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise JournalError(f"The endpoint's journal can't be made: {obstacles.explain(own, error)}") from error
    reader = Reader(own)
    reader.read(dispatched.take(dispatched.path_in(folder)))
    if reader.unfinished:
        log.info("The journal has %d unfinished tasks of an endpoint before this one", len(reader.unfinished))
    return reader


def has_unfinished(folder: Path) -> bool:
    """Return whether the journal in an endpoint's folder has unfinished tasks, or can't be read. It may block."""
    try:
        return bool(unfinished(folder))
    except JournalError:
        return True


def unfinished(folder: Path) -> dict[str, Unfinished]:
    """Return the unfinished tasks, and leave everything as it is. Raise `JournalError`. It may block."""
    reader = Reader(folder / "journal")
    reader.read(None)
    return reader.unfinished


class Journal:
    """The journal, written behind what `reader` found. It is for the loop: everything returns at once."""

    def __init__(self, reader: Reader) -> None:
        self.unfinished: dict[str, Unfinished] = reader.unfinished
        """The tasks that predecessors left; whoever has dealt with them empties it."""
        self._dispatched = dispatched.path_in(reader.folder.parent)
        self.done = tuple(reader.done)
        """Ids of tasks that predecessors finished, the last one last."""
        self._loop = asyncio.get_running_loop()
        self._writer = Writer(Segments(reader.folder, reader.index))

    def taken(self, task: Task, attempts: int) -> asyncio.Future[None]:
        """Record a task. When that is safe it is handed to the engine, for the `attempts`-th time; 0: not yet."""
        return self._safe(Kind.TAKEN, task.id, records.taken(task, attempts))

    def trying(self, task_id: str, attempts: int) -> asyncio.Future[None]:
        """Record that a task is handed to the engine for the `attempts`-th time, as soon as that is safe."""
        return self._safe(Kind.TRIED, task_id, records.tried(task_id, attempts, sure=False))

    def tried(self, task_id: str, attempts: int) -> None:
        """Record that a task was tried `attempts` times, and that no worker has it now."""
        self._writer.write(Record(Kind.TRIED, task_id, records.tried(task_id, attempts, sure=True)))

    def dispatched(self) -> Set[str] | None:
        """Return the tasks that the engine has sent to workers; None if it doesn't tell."""
        return dispatched.peek(self._dispatched)

    def none_dispatched(self) -> None:
        """Forget which tasks were sent to workers: there is no unfinished task."""
        dispatched.empty(self._dispatched)

    def answered(self, task_id: str, result: bytes) -> asyncio.Future[None]:
        """Record a task's result."""
        return self._safe(Kind.ANSWERED, task_id, records.answered(task_id, result))

    def finished(self, task_id: str) -> None:
        """Record that a task's result is where it has to be."""
        self._writer.write(Record(Kind.DONE, task_id, records.done(task_id)))

    def _safe(self, kind: Kind, task_id: str, payload: bytes) -> asyncio.Future[None]:
        """Write a record; the future is done when it is safe, or has the `OSError` why it can't be written."""
        safe: asyncio.Future[None] = self._loop.create_future()
        self._writer.write(Record(kind, task_id, payload, partial(_tell, safe)))
        return safe

    async def close(self, limit_s: float) -> None:
        """Write what waits, at most `limit_s` seconds."""
        await self._writer.close(limit_s)


def _tell(safe: asyncio.Future[None], error: OSError | None) -> None:
    if safe.done():  # nobody waits any more
        return
    if error is None:
        safe.set_result(None)
    else:
        safe.set_exception(error)
