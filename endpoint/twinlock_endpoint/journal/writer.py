"""The thread that writes the journal: whatever waits goes to the disk together, and is synced together.

A task that was taken is safe when the disk has it. A result is safe when it is written, for then it outlives this
process; the disk has it a tenth of a second later. A host that goes down within that time may make a task have a
second, worse outcome after its result was delivered; to wait for the disk would cost every task some milliseconds.
"""

import asyncio
import errno
import logging
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from queue import Empty, SimpleQueue

from twinlock_endpoint.journal.records import Kind, Record
from twinlock_endpoint.journal.segments import Segments

log = logging.getLogger(__name__)

_LAZY_S = 0.1
_BUSY_S = 0.003
_BUSY = 8  # open tasks; a few that follow each other are not kept waiting
_MOST = 1000  # records at a time, or somewhat more


class Writer:
    """The thread, which writes to `segments`. If the disk doesn't take something, it is tried with the next."""

    def __init__(self, segments: Segments) -> None:
        self._segments = segments
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[list[Record] | None] = SimpleQueue()
        self._gathered: list[Record] = []
        self._flushing: asyncio.TimerHandle | None = None
        self._hurried = False
        self._open: set[str] = set()
        self._ending = False
        self._unsynced = False
        self._failing = False
        self._owed: list[Record] = []
        self._ended = asyncio.Event()
        threading.Thread(target=self._work, name="journal", daemon=True).start()

    def write(self, record: Record) -> None:
        """Write a record; return at once.

        Each time that the thread wakes costs as much as what it writes then. So what this turn of the loop has to
        write goes to it together, and where many tasks are open, what comes within the next milliseconds too. That a
        task is done is in no hurry: it goes with the next record that is.
        """
        self._gathered.append(record)
        if record.kind is Kind.DONE:
            self._open.discard(record.task_id)
            if self._flushing is None:
                self._plan(_LAZY_S)
        else:
            self._open.add(record.task_id)
            if not self._hurried:
                self._hurried = True
                self._plan(_BUSY_S if len(self._open) >= _BUSY else 0)

    async def close(self, limit_s: float) -> None:
        """Write what waits, at most `limit_s` seconds, and end the thread."""
        self._flush()
        self._queue.put(None)
        try:
            async with asyncio.timeout(limit_s):
                await self._ended.wait()
        except TimeoutError:
            log.error("The journal could not be closed within %.0f s", limit_s)

    def _plan(self, delay_s: float) -> None:
        if self._flushing is not None:
            self._flushing.cancel()
        self._flushing = self._loop.call_later(delay_s, self._flush)

    def _flush(self) -> None:
        self._flushing, self._hurried = None, False
        if self._gathered:
            self._queue.put(self._gathered)
            self._gathered = []

    def _work(self) -> None:
        while (batch := self._collect()) is not None:
            if batch:
                self._commit(batch)
            else:
                self._sync()
        self._sync()
        self._segments.close()
        self._in_loop(self._ended.set)

    def _collect(self) -> list[Record] | None:
        """Return what waits, but at least one record; an empty list if it is time to sync; None at the end."""
        batch: list[Record] = []
        with suppress(Empty):
            if not self._ending:
                batch += self._next(timeout=_LAZY_S if self._unsynced else None)
            while not self._ending and len(batch) < _MOST:
                batch += self._next(timeout=0)
        return None if self._ending and not batch else batch

    def _next(self, timeout: float | None) -> list[Record]:
        records = self._queue.get(timeout != 0, timeout)
        self._ending = records is None
        return records or []

    def _commit(self, batch: list[Record]) -> None:
        error = self._attempt(lambda: self._segments.append(self._owed + batch))
        self._owed = self._ends(self._owed + batch) if error else []
        self._unsynced = True
        durable = [record for record in batch if record.durable]
        self._tell((record for record in batch if not record.durable), error)
        if durable:
            self._tell(durable, error or self._sync())
        with suppress(OSError):  # it is tried again with the next records
            self._segments.tidy()

    def _ends(self, records: list[Record]) -> list[Record]:
        """Return the ends of tasks that would come to life again with the next endpoint if these weren't written."""
        return [record for record in records if record.kind is Kind.DONE and self._segments.has(record.task_id)]

    def _sync(self) -> OSError | None:
        self._unsynced = False
        return self._attempt(self._segments.sync)

    def _attempt(self, call: Callable[[], None]) -> OSError | None:
        try:
            call()
        except OSError as error:
            failed: OSError | None = error
        except Exception as error:
            log.exception("The journal's thread")
            failed = OSError(errno.EIO, f"{type(error).__name__}: {error}")
        else:
            failed = None
        self._note(failed)
        return failed

    def _note(self, failed: OSError | None) -> None:
        if failed is not None and not self._failing:
            log.error("The journal can't be written: %s", failed.strerror)
        elif failed is None and self._failing:
            log.info("The journal can be written again")
        self._failing = failed is not None

    def _tell(self, records: Iterable[Record], error: OSError | None) -> None:
        calls = [record.safe for record in records if record.safe is not None]
        if calls:
            self._in_loop(_call_all, calls, error)

    def _in_loop(self, call: Callable[..., object], *arguments: object) -> None:
        with suppress(RuntimeError):  # the loop is closed: the endpoint has ended
            self._loop.call_soon_threadsafe(call, *arguments)


def _call_all(calls: list[Callable[[OSError | None], None]], error: OSError | None) -> None:
    for call in calls:
        try:
            call(error)
        except Exception:
            log.exception("What follows from a record of the journal failed")
