"""Calls that can block (name services, mappers, templates, REST), off the loop and with a time limit."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from twinlock_broker.errors import CommandError

T = TypeVar("T")


class Offload:
    """Runs blocking calls in daemon threads, at most `threads` at once.

    Not asyncio's default executor: a thread that hangs there (a dead NFS server, a mapper) would be waited for at exit.
    A call that overran its limit keeps its place until it really ends, so that hung calls can't pile up without bound.
    """

    def __init__(self, name: str, threads: int) -> None:
        self._name = name
        self._places = asyncio.Semaphore(threads)

    async def run(self, limit: float, call: Callable[[], T]) -> T:
        """What `call` returns or raises; `TimeoutError` if it, or the wait for a free thread, took `limit` seconds."""
        async with asyncio.timeout(limit):
            await self._places.acquire()
            outcome: Future[T] = Future()
            outcome.set_running_or_notify_cancel()  # from here on a caller who gives up can't cancel it
            loop = asyncio.get_running_loop()
            outcome.add_done_callback(lambda _: self._release(loop))
            threading.Thread(target=_work, args=(outcome, call), name=self._name, daemon=True).start()
            return await asyncio.wrap_future(outcome)

    def _release(self, loop: asyncio.AbstractEventLoop) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile, nobody waits for the place
            loop.call_soon_threadsafe(self._places.release)


def _work(outcome: Future[T], call: Callable[[], T]) -> None:
    try:
        value = call()
    except BaseException as error:  # it is raised again where the call was made
        outcome.set_exception(error)
    else:
        outcome.set_result(value)


async def limited(offload: Offload, limit: float, doing: str, call: Callable[[], T]) -> T:
    """`Offload.run` for a user who waits: an overrun becomes a `CommandError` that says what this site was `doing`."""
    try:
        return await offload.run(limit, call)
    except TimeoutError as error:
        raise CommandError(
            f"This site took more than {limit:.0f} seconds for {doing}. Submit again later; where that doesn't help, "
            "tell the endpoint's administrator"
        ) from error
