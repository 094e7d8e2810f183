"""A line of commands for each person, so that whoever sends slow ones holds up nobody else."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from weakref import WeakValueDictionary

from twinlock_broker.compute.command_queue import PREFETCH
from twinlock_broker.errors import CommandError

MOST = PREFETCH // 2
"""Commands of one person that may wait as long as they have to; each keeps its place, and others need places too."""

PATIENCE = 5.0
"""Seconds that one more waits: enough for hundreds, where nothing is slow."""


class FairQueue:
    """The lines, one a person. Only the first command of a line is worked on."""

    def __init__(self) -> None:
        self._lines: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._lengths: Counter[str] = Counter()

    @contextlib.asynccontextmanager
    async def turn(self, person: str) -> AsyncIterator[None]:
        """The block runs when it is the turn of this command of `person`. Raises `CommandError` for one too many."""
        patience = None if self._lengths[person] < MOST else PATIENCE
        line = self._lines.setdefault(person, asyncio.Lock())
        self._lengths[person] += 1
        try:
            async with asyncio.timeout(patience) as waiting, line:
                waiting.reschedule(None)
                yield
        except TimeoutError as error:
            raise CommandError(
                f"More than {MOST} start requests of yours are in work here, and they take long. Submit again later"
            ) from error
        finally:
            self._lengths[person] -= 1
            if not self._lengths[person]:
                del self._lengths[person]
