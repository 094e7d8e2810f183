"""Starts that are more than the spawner's policy allows at a time: they wait in line, an account in each."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from weakref import WeakValueDictionary

from twinlock_wire import wire

from twinlock_broker.compute.command_queue import PREFETCH

LIMIT = 60.0
"""Seconds that a start may wait in all."""

MOST = PREFETCH // 2
"""Starts that may wait at a time: each keeps its place among the commands in work, and others need places too."""

_LITTLE = 0.1
"""Seconds that are waited beyond what the spawner names, so that nobody comes just too early."""

_NAMED = re.compile(r"again in ([0-9]{1,9}) s")


class Turns:
    """The lines of starts that wait."""

    def __init__(self) -> None:
        self._lines: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._waiting = 0

    async def take(
        self, user: str, ask: Callable[[], Awaitable[wire.Spawned | wire.Refused]]
    ) -> wire.Spawned | wire.Refused:
        """The answer to a start for the account `user`, which `ask` gets. Where it is "too many", it is asked for again
        as soon as that helps, until `LIMIT`; of a line only by the first.
        """
        end = time.monotonic() + LIMIT
        answer = await ask()
        due = _due(answer)
        if not due or self._waiting >= MOST:
            return answer
        self._waiting += 1
        try:
            async with self._lines.setdefault(user, asyncio.Lock()):
                while due and max(due, time.monotonic()) < end:
                    await asyncio.sleep(due - time.monotonic())
                    answer = await ask()
                    due = _due(answer)
        finally:
            self._waiting -= 1
        return answer


def _due(answer: wire.Spawned | wire.Refused) -> float:
    """The time (time.monotonic()) to ask again; 0 where there is nothing to wait for."""
    named = isinstance(answer, wire.Refused) and answer.stage == "rate" and _NAMED.search(answer.reason)
    return time.monotonic() + int(named[1]) + _LITTLE if named else 0
