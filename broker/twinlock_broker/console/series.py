"""Numbers over time, in a fixed amount of memory."""

from array import array
from math import isnan, nan

POINTS = 360
"""Numbers that a series keeps."""


class Series:
    """A number for each of the last `POINTS` steps of time, which are counted from any one on."""

    def __init__(self) -> None:
        self._values = array("f", [nan]) * POINTS
        self._newest = -1

    def put(self, step: int, value: float) -> None:
        """Note the number of a step, which isn't before the newest one; a former number of this step is forgotten."""
        self._advance(step)
        self._values[step % POINTS] = value

    def add(self, step: int, value: float) -> None:
        """Add to the number of a step, which isn't before the newest one."""
        self._advance(step)
        before = self._values[step % POINTS]
        self._values[step % POINTS] = value if isnan(before) else before + value

    def until(self, step: int) -> list[float | None]:
        """Return the numbers of the steps that end with this one, the oldest first; None where there is none."""
        steps = range(step - POINTS + 1, step + 1)
        known = (self._values[one % POINTS] if self._newest - POINTS < one <= self._newest else nan for one in steps)
        return [None if isnan(value) else value for value in known]

    def _advance(self, step: int) -> None:
        """Forget what is in the places of the steps since the newest one."""
        for passed in range(max(self._newest + 1, step - POINTS + 1), step + 1):
            self._values[passed % POINTS] = nan
        self._newest = max(self._newest, step)
