"""Long work in pieces, so that others get their turn in between."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def chunks(items: Iterable[T], most: int, size: Callable[[T], int], total: int) -> Iterator[list[T]]:
    """Cut `items` into lists of at most `most`, and of `total` by their sizes unless one alone is larger."""
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
