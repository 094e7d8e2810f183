"""Blocking calls off the loop, in threads that keep no process alive.

Not asyncio.to_thread: its threads are joined when the interpreter ends, and a call into Parsl may never come back.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


def in_thread(call: Callable[[], T]) -> asyncio.Future[T]:
    """Run `call` in a daemon thread; the future of the running loop gets its value or its exception."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        try:
            value = call()
        except Exception as error:
            _tell(loop, _fail, future, error)
        else:
            _tell(loop, _finish, future, value)

    threading.Thread(target=run, name=getattr(call, "__name__", "call"), daemon=True).start()
    return future


def _tell(loop: asyncio.AbstractEventLoop, call: Callable[..., None], *arguments: object) -> None:
    with suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(call, *arguments)


def _finish(future: asyncio.Future[T], value: T) -> None:
    if not future.done():
        future.set_result(value)


def _fail(future: asyncio.Future[T], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
