"""The connection of `top` and of the console to the broker.

It is asked in threads, again and again, even if it is away for a while.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from twinlock_common.backoff import delays
from twinlock_common.offload import in_thread

from twinlock_broker.commands.ask import ask
from twinlock_broker.errors import Fatal
from twinlock_broker.top.picture import Picture

PERIOD = 2.0
"""Seconds between two questions."""

_REST = 4
"""Until the next question at least so many times as long as the last answer took: thousands of endpoints take long."""

_LONGEST = 10.0
"""Seconds between two questions while there is no answer."""

LIMIT = 10.0
"""Seconds for an answer to `status`, for which the broker has nothing to wait for."""


def look(path: Path) -> Picture:
    """Ask the broker and return the picture. Raise `Fatal`. Blocks."""
    answer = ask(path, {"request": "status"}, limit=LIMIT)
    return Picture(answer, time.monotonic())


class BrokerLink:
    """The questions to the broker whose socket is at `path`.

    `look` makes a picture, and `period` returns the seconds between two of them.
    """

    def __init__(
        self, path: Path, look: Callable[[Path], Picture] = look, period: Callable[[], float] = lambda: PERIOD
    ) -> None:
        self._path = path
        self._look = look
        self._period = period
        self._hurried = asyncio.Event()

    async def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the broker's answer. Raise `Fatal` as `commands.ask` does."""
        return await in_thread(lambda: ask(self._path, request))

    def hurry(self) -> None:
        """Have the next question asked at once."""
        self._hurried.set()

    async def watch(self, picture: Picture, show: Callable[[Picture], None]) -> None:
        """Have `show` called with each new picture, the first of which comes after `picture`, without end."""
        waits = delays(most=_LONGEST)
        pause = self._period()
        while True:
            self._hurried.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._hurried.wait()
            asked = time.monotonic()
            try:
                picture = await self.look()
                waits, pause = delays(most=_LONGEST), max(self._period(), _REST * (picture.taken - asked))
            except Fatal as error:
                picture, pause = replace(picture, trouble=str(error)), next(waits)
            show(picture)

    async def look(self) -> Picture:
        """Return a new picture. Raise `Fatal`."""
        return await in_thread(lambda: self._look(self._path))
