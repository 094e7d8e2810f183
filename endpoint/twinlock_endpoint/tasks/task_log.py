"""The file `tasks.log` in the endpoint's folder: a line for each task that has ended.

``task=UUID function=UUID accepted=TIME start=TIME end=TIME worker=HOST:PID outcome=OUTCOME``, times in UTC. `start` and
`worker` are ``-`` if no worker has answered; the outcome is ``success``, or the code of the error. `twinlock trace` of
the administrator's reads it.

It may hold up no task. So lines are written together, in a thread, at most once a second, and lines that the disk
doesn't take are lost.
"""

import asyncio
import logging
import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from twinlock_common.offload import in_thread

from twinlock_endpoint.tasks.entry import Entry
from twinlock_endpoint.worker import messages

MAX_BYTES = 10 << 20
"""Bytes after which the file is moved aside. Only the last one moved is kept, so there are at most two."""

_PERIOD_S = 1.0
_MOST = 20_000  # lines that wait while the disk doesn't answer
_PLAIN = re.compile(r"[^\w.:-]")

log = logging.getLogger(__name__)


class TaskLog:
    """The file at `path`, for the tasks of the running loop's endpoint."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._loop = asyncio.get_running_loop()
        self._waiting: list[Callable[[], str]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Future[None] | None = None
        self._failing = False

    def note(self, entry: Entry, result: bytes) -> None:
        """Have a line written about a task that has this packed result now."""
        if len(self._waiting) < _MOST:
            self._waiting.append(_line(entry, messages.end_of(result), time.time()))
        if self._timer is None and self._writing is None:
            self._timer = self._loop.call_later(_PERIOD_S, self._begin)

    async def close(self, limit_s: float) -> None:
        """Write what waits, at most `limit_s` seconds."""
        if self._timer is not None:
            self._timer.cancel()
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                if self._writing is not None:
                    await asyncio.shield(self._writing)
                if self._waiting:
                    await self._write()

    def _begin(self) -> None:
        self._timer = None
        self._writing = self._loop.create_task(self._write())

    async def _write(self) -> None:
        lines, self._waiting = self._waiting, []
        try:
            await in_thread(lambda: self._append("".join(line() for line in lines)))
            self._failing = False
        except (OSError, RuntimeError) as error:  # no space, or no thread
            if not self._failing:
                log.warning("%s can't be written, which holds up no task: %s", self._path.name, error)
            self._failing = True
        self._writing = None
        if self._waiting:
            self._timer = self._loop.call_later(_PERIOD_S, self._begin)

    def _append(self, text: str) -> None:
        file = self._open()
        try:
            if os.fstat(file).st_size > MAX_BYTES:
                self._path.replace(self._path.with_name(f"{self._path.name}.1"))
                os.close(file)
                file = self._open()
            os.write(file, text.encode())
        finally:
            os.close(file)

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)


def _line(entry: Entry, end: bytes, now: float) -> Callable[[], str]:
    """Return a function that makes the line, for the thread that writes it."""
    task_id, function_id, waited = entry.id, entry.function_id, time.monotonic() - entry.arrived

    def make() -> str:
        worked = messages.worked(end)
        start, ended = (_time(worked.start), worked.end) if worked.end else ("-", now)
        return (
            f"task={task_id} function={_PLAIN.sub('_', function_id)} accepted={_time(now - waited)} start={start} "
            f"end={_time(ended)} worker={worked.worker or '-'} outcome={_PLAIN.sub('_', worked.error) or 'success'}\n"
        )

    return make


def _time(seconds: float) -> str:
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{int(seconds * 1000) % 1000:03}Z"
