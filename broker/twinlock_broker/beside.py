"""Parts of the broker that run beside each other, and what becomes of the others when one fails."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any

from twinlock_broker.errors import Fatal

log = logging.getLogger(__name__)


async def all_set(*events: asyncio.Event) -> None:
    """Wait until all of these are set."""
    for event in events:
        await event.wait()


@contextlib.asynccontextmanager
async def running(part: Coroutine[Any, Any, None]) -> AsyncIterator[asyncio.Task[None]]:
    """Run a part of the broker beside the block, and cancel it at the block's end."""
    task = asyncio.create_task(part)
    task.add_done_callback(_log_failure)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait((task,))


def _log_failure(part: asyncio.Task[None]) -> None:
    """Log at once that a part of the broker ended by an unexpected error: not everybody who starts one waits for it."""
    if part.cancelled() or part.exception() is None or isinstance(part.exception(), Fatal):
        return
    log.error("a part of the broker ended unexpectedly", exc_info=part.exception())


async def unless_failed(parts: Sequence[asyncio.Task[None]], wait: Coroutine[Any, Any, Any]) -> None:
    """Wait for `wait`, and raise the exception of one of `parts` if that ends sooner. They end in no other way."""
    waiting = asyncio.create_task(wait)
    try:
        done, _ = await asyncio.wait((*parts, waiting), return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        waiting.cancel()
