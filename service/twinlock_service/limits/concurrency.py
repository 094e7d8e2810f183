"""Who goes on and who waits: how many requests of one caller are served at a time, and locks by name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

AT_ONCE = 2
"""How many requests of one caller are served at a time; further ones wait for these."""

LARGE = 4 * 1024 * 1024
"""Bytes from which on a request is large; of these a caller has one at a time, since they are held in memory."""


class NamedLocks:
    """A lock for each name; those that nobody holds or waits for are not kept."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def __getitem__(self, name: str) -> asyncio.Lock:
        """Return the lock with this name."""
        return self._locks.get(name) or self._locks.setdefault(name, asyncio.Lock())


@dataclass(slots=True, weakref_slot=True)
class _Caller:
    """What a caller has in work."""

    all: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))
    large: asyncio.Lock = field(default_factory=asyncio.Lock)


class CallerLimits:
    """What each caller has in work. Callers without a request in work are not kept."""

    def __init__(self) -> None:
        self._callers: WeakValueDictionary[str, _Caller] = WeakValueDictionary()

    @asynccontextmanager
    async def turn(self, caller: str, size: int | None) -> AsyncIterator[None]:
        """Wait for a turn of this caller, and hold it. `size` is the request's in bytes, or None if it isn't known."""
        limits = self._callers.get(caller) or self._callers.setdefault(caller, _Caller())
        async with AsyncExitStack() as held:
            if size is None or size > LARGE:
                await held.enter_async_context(limits.large)
            await held.enter_async_context(limits.all)
            yield
