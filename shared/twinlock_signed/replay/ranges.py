"""Sets of numbers that are nearly all there, as ranges."""

import bisect
from collections.abc import Iterator


class Ranges:
    """Numbers, in the memory of as many ranges as there are gaps."""

    def __init__(self) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []

    def __contains__(self, number: int) -> bool:
        place = bisect.bisect_right(self._firsts, number) - 1
        return place >= 0 and number <= self._lasts[place]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield the first and the last number of each range, in order. No two of them touch."""
        return iter(zip(self._firsts, self._lasts, strict=True))

    def add(self, number: int) -> None:
        """Add a number, which may be there already."""
        if number in self:
            return
        place = bisect.bisect_right(self._firsts, number)  # of the range above
        joins_below = place > 0 and self._lasts[place - 1] == number - 1
        joins_above = place < len(self._firsts) and self._firsts[place] == number + 1
        if joins_below and joins_above:
            self._lasts[place - 1] = self._lasts.pop(place)
            del self._firsts[place]
        elif joins_below:
            self._lasts[place - 1] = number
        elif joins_above:
            self._firsts[place] = number
        else:
            self._firsts.insert(place, number)
            self._lasts.insert(place, number)
