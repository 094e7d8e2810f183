"""The last things that happened, of which nobody can push out everybody else's."""

from collections import Counter, deque
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class FairRing(Generic[T]):
    """The last `most` items. One too many pushes out the oldest of the group that has most."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._items: deque[tuple[str, T]] = deque()
        self._sizes: Counter[str] = Counter()

    def add(self, group: str, item: T) -> None:
        """Add an item of a group, such as an account."""
        self._items.append((group, item))
        self._sizes[group] += 1
        if len(self._items) > self._most:
            self._drop(max(self._sizes, key=self._sizes.__getitem__))

    def __iter__(self) -> Iterator[T]:
        """Yield the items, the oldest first."""
        return (item for _, item in list(self._items))

    def _drop(self, largest: str) -> None:
        del self._items[next(place for place, (group, _) in enumerate(self._items) if group == largest)]
        self._sizes[largest] -= 1
        if not self._sizes[largest]:
            del self._sizes[largest]
