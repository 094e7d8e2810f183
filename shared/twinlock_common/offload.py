"""Blocking calls beside the loop, in threads that don't keep the process alive.

asyncio.to_thread isn't used: the interpreter joins its threads when it ends, and a call may never return, because of a
dead NFS server, a mapper, or Parsl.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")


def in_thread(call: Callable[[], T]) -> asyncio.Future[T]:
    """Run `call` in a daemon thread, and return a future of the running loop for its value or exception."""
    return asyncio.wrap_future(_started(call, getattr(call, "__name__", "call")))


class Offload:
    """Blocking calls with a time limit, at most `threads` at once.

    A call that overran its limit keeps its thread until it really ends, so that hung calls can't pile up without bound.
    """

    def __init__(self, name: str, threads: int) -> None:
        self._name = name
        self._places = asyncio.Semaphore(threads)

    async def run(self, limit: float, call: Callable[[], T]) -> T:
        """Return what `call` returns, or raise what it raises.

        Raise `TimeoutError` if the wait for a free thread and the call take more than `limit` seconds together.
        """
        async with asyncio.timeout(limit):
            await self._places.acquire()
            loop = asyncio.get_running_loop()
            outcome = _started(call, self._name)
            outcome.add_done_callback(lambda _: self._release(loop))
            return await asyncio.wrap_future(outcome)

    def _release(self, loop: asyncio.AbstractEventLoop) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile, so nobody waits for the thread
            loop.call_soon_threadsafe(self._places.release)


class InOrder:
    """Blocking calls one after the other, in one thread: for those that are so many that a thread each costs too much.

    Who waits for a call waits for all that were asked for before. The thread begins with the first one.
    """

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    def run(self, call: Callable[[], T]) -> asyncio.Future[T]:
        """Run `call` when its turn comes, and return a future of the running loop for its value or exception.

        Raise `RuntimeError` if there can't be a thread: the account has as many processes as it may.
        """
        if self._thread.ident is None:
            self._thread.start()
        outcome: Future[T] = Future()
        outcome.set_running_or_notify_cancel()
        self._calls.put((outcome, call))
        return asyncio.wrap_future(outcome)

    def _work(self) -> None:
        while True:
            _work(*self._calls.get())


def _started(call: Callable[[], T], name: str) -> Future[T]:
    outcome: Future[T] = Future()
    outcome.set_running_or_notify_cancel()  # from here on a caller who gives up can't cancel it
    threading.Thread(target=_work, args=(outcome, call), name=name, daemon=True).start()
    return outcome


def _work(outcome: Future[T], call: Callable[[], T]) -> None:
    try:
        value = call()
    except BaseException as error:  # the caller's future raises it again
        outcome.set_exception(error)
    else:
        outcome.set_result(value)
