"""Rations: how much of the broker one account or one endpoint may have for itself."""

import time
from collections.abc import Hashable

_KEPT = 1000


class Ration:
    """An amount of `rate` a second on average, and of `most` at once after a rest (a token bucket)."""

    def __init__(self, rate: float, most: float) -> None:
        self._rate = rate
        self._slack = most / rate
        self._paid_at = 0.0
        """time.monotonic() of when everything that was taken is paid off."""

    def wait(self) -> float:
        """Return the seconds until something may be taken; 0 if that is now."""
        return max(0.0, self._paid_at - time.monotonic() - self._slack)

    def take(self, amount: float = 1.0) -> None:
        """Take `amount`, which may be more than there is: then the next one waits longer."""
        self._paid_at = max(self._paid_at, time.monotonic()) + amount / self._rate

    @property
    def full(self) -> bool:
        """Whether it is as good as new, so that it needn't be remembered."""
        return self._paid_at <= time.monotonic()


class Rations:
    """Rations of the same size, one for each of those who come."""

    def __init__(self, rate: float, most: float) -> None:
        self._size = rate, most
        self._rations: dict[Hashable, Ration] = {}

    def of(self, who: Hashable) -> Ration:
        """Return the ration of `who`. One that is full again may be forgotten, since a new one is the same."""
        if who not in self._rations and len(self._rations) >= _KEPT:
            self._rations = {known: ration for known, ration in self._rations.items() if not ration.full}
        return self._rations.setdefault(who, Ration(*self._size))
