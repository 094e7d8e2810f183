"""Delays between attempts."""

import random
from collections.abc import Iterator


def delays(first: float = 0.5, most: float = 30.0) -> Iterator[float]:
    """Yield the seconds to wait before each new attempt, without end.

    They grow from `first` to `most`, with jitter so that not all clients come at once.
    """
    delay = first
    while True:
        yield random.uniform(delay / 2, delay)  # noqa: S311  (no secret in it)
        delay = min(delay * 2, most)
