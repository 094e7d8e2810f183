"""The ends of tasks in an engine, which come in any thread, passed on to the loop."""

import asyncio
from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from functools import partial


class EngineEnds:
    """The ends that wait for the loop, which is woken once for all of them.

    Each wake-up costs a part of a task's time here.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended: deque[asyncio.Future[None]] = deque()
        self._is_woken = False

    def of(self, future: Future[bytes]) -> asyncio.Future[None]:
        """Return a future of the loop that is done when the engine's future is done, whatever its outcome."""
        ended: asyncio.Future[None] = self._loop.create_future()
        future.add_done_callback(partial(self._note, ended))
        return ended

    def _note(self, ended: asyncio.Future[None], _future: Future[bytes]) -> None:
        """Note an end, and wake the loop unless it is woken already; called from any thread."""
        self._ended.append(ended)
        if not self._is_woken:
            self._is_woken = True
            with suppress(RuntimeError):  # the loop is closed: the endpoint has ended
                self._loop.call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        self._is_woken = False  # first: what comes from now on wakes again
        while self._ended:
            set_done(self._ended.popleft())


def set_done(future: asyncio.Future[None]) -> None:
    """Let whoever waits for the future go on. It is done already if the wait was interrupted."""
    if not future.done():
        future.set_result(None)
