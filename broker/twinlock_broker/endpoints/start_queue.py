"""Starts that the spawner's rate limits put off: they wait, in a queue for each account."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from weakref import WeakValueDictionary

from twinlock_wire import wire

from twinlock_broker import metrics
from twinlock_broker.compute.command_queue import PREFETCH

LIMIT = 60.0
"""Seconds that a start may wait in all."""

MOST = PREFETCH // 2
"""Starts that may wait at a time: each takes a place in `PREFETCH`, which other commands need too."""

_LITTLE = 0.1
"""Seconds added to the wait that the spawner names, so that no start comes just too early."""

_NAMED = re.compile(r"again in ([0-9]{1,9}) s")


class StartQueue:
    """The starts that wait."""

    def __init__(self) -> None:
        self._lines: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._waiting = 0

    @property
    def waiting(self) -> int:
        """How many starts wait."""
        return self._waiting

    async def ask(
        self, user: str, spawn: Callable[[], Awaitable[wire.Spawned | wire.Refused]]
    ) -> wire.Spawned | wire.Refused:
        """Return the spawner's answer to a start for the account `user`, which `spawn` asks for.

        If the answer is "too many starts", the start waits. `spawn` is called again as soon as that helps, until
        `LIMIT` is over, and for each account only for the start that is first.
        """
        end = time.monotonic() + LIMIT
        answer = await spawn()
        due = _due(answer)
        if not due or self._waiting >= MOST:
            return answer
        self._waiting += 1
        try:
            with metrics.QUEUE.time():  # the spawner's answers in between take little of it
                async with self._lines.setdefault(user, asyncio.Lock()):
                    while due and max(due, time.monotonic()) < end:
                        await asyncio.sleep(due - time.monotonic())
                        answer = await spawn()
                        due = _due(answer)
        finally:
            self._waiting -= 1
        return answer


def _due(answer: wire.Spawned | wire.Refused) -> float:
    """Return the time (time.monotonic()) to ask again; 0 if there is nothing to wait for."""
    named = isinstance(answer, wire.Refused) and answer.stage == "rate" and _NAMED.search(answer.reason)
    return time.monotonic() + int(named[1]) + _LITTLE if named else 0
