"""How much of the broker one person may have: whoever's commands take long waits in a line of his own."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from weakref import WeakValueDictionary

from twinlock_broker.compute.command_queue import PREFETCH
from twinlock_broker.errors import CommandError

MOST = PREFETCH // 2
"""Commands of one person that may be in work; each keeps its place among all that are, and others need places too."""


class Shares:
    """The lines, a person each. Only the first of a line is worked on."""

    def __init__(self) -> None:
        self._lines: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._lengths: Counter[str] = Counter()

    @contextlib.asynccontextmanager
    async def turn(self, person: str) -> AsyncIterator[None]:
        """The block runs when it is the turn of this command of `person`. Raises `CommandError` for one too many."""
        if self._lengths[person] >= MOST:
            raise CommandError(
                f"You have {MOST} start requests here that are still in work, and more are not taken. "
                "Submit again later"
            )
        self._lengths[person] += 1
        try:
            async with self._lines.setdefault(person, asyncio.Lock()):
                yield
        finally:
            self._lengths[person] -= 1
            if not self._lengths[person]:
                del self._lengths[person]
