"""Long work in pieces, so that others get their turn in between."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

SLICE = 0.005
"""Seconds of work after which others get their turn."""

T = TypeVar("T")


class TimeSlice:
    """Long work of many steps."""

    def __init__(self) -> None:
        self._ends = time.monotonic() + SLICE

    async def pause(self) -> None:
        """Let others work, unless this work has hardly begun. To be called after each step."""
        if time.monotonic() > self._ends:
            await asyncio.sleep(0)
            self._ends = time.monotonic() + SLICE


def chunks(items: Iterable[T], most: int, size: Callable[[T], int], total: int) -> Iterator[list[T]]:
    """Cut `items` into lists of at most `most`, whose sizes add up to at most `total` unless one item is larger."""
    chunk: list[T] = []
    room = total
    for item in items:
        if chunk and (len(chunk) == most or size(item) > room):
            yield chunk
            chunk, room = [], total
        chunk.append(item)
        room -= size(item)
    if chunk:
        yield chunk
