"""A queue of commands for each person, so that whoever sends slow ones holds up nobody else."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from weakref import WeakValueDictionary

from twinlock_broker import metrics
from twinlock_broker.compute.command_queue import PREFETCH
from twinlock_broker.errors import CommandError

MOST = PREFETCH // 2
"""Commands of one person that may wait without limit; each takes a place in `PREFETCH`, which others need too."""

PATIENCE = 5.0
"""Seconds that a further command waits: enough for hundreds, if nothing is slow."""


class FairQueue:
    """The queues, one for each person. Only the first command of a queue is worked on."""

    def __init__(self) -> None:
        self._lines: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._lengths: Counter[str] = Counter()

    @contextlib.asynccontextmanager
    async def turn(self, person: str) -> AsyncIterator[None]:
        """Run the block when it is the turn of this command of `person`. Raise `CommandError` for one too many."""
        patience = None if self._lengths[person] < MOST else PATIENCE
        line = self._lines.setdefault(person, asyncio.Lock())
        self._lengths[person] += 1
        try:
            await _take_turn(line, patience)
            try:
                yield
            finally:
                line.release()
        finally:
            self._lengths[person] -= 1
            if not self._lengths[person]:
                del self._lengths[person]


async def _take_turn(line: asyncio.Lock, patience: float | None) -> None:
    try:
        with metrics.QUEUE.time():
            async with asyncio.timeout(patience):
                await line.acquire()
    except TimeoutError as error:
        raise CommandError(
            f"More than {MOST} of your start requests are in progress here, and they take long. Submit again later"
        ) from error
