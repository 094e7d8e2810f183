"""How long tasks wait and run, as endpoints tell it: what is new of that is added to the broker's own histograms.

An endpoint tells what has come together since its process began. It is a process of the account, which may tell
anything, so what can't be true isn't counted.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from twinlock_common.task_times import BOUNDS, RUN, WAIT

from twinlock_broker import metrics

MOST_A_SECOND = 10_000
"""Tasks a second, on average, that no endpoint manages: each takes some 0.4 ms of processor time."""

SLACK = 60.0
"""Seconds by which a process may be older than the broker believes."""

_ROUNDING = 1.0  # seconds by which a sum may be off

_HISTOGRAMS = {WAIT: metrics.TASK_QUEUE_SECONDS, RUN: metrics.TASK_SECONDS}
"""The broker's own, by the names that endpoints use."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """Times by the buckets of `BOUNDS`."""

    counts: tuple[int, ...] = (0,) * (len(BOUNDS) + 1)
    """The number of times in each bucket."""
    sum: float = 0.0
    """Seconds of all times together."""

    def since(self, before: "Histogram") -> "Histogram":
        """Return what has been added since `before`. Raise `ValueError` if something was taken away."""
        counts = tuple(now - then for now, then in zip(self.counts, before.counts, strict=True))
        if min(counts) < 0 or self.sum < before.sum:
            raise ValueError("a histogram has less in it than before")
        return Histogram(counts, self.sum - before.sum)

    def objection(self, age: float) -> str:
        """Return why a process that is `age` seconds old can't have counted this; empty if it can."""
        longest = age + SLACK
        number = sum(self.counts)
        if number > MOST_A_SECOND * longest:
            return f"{number} tasks within {age:.0f} s"
        least = sum(count * bound for count, bound in zip(self.counts, (0.0, *BOUNDS), strict=True))
        most = sum(count * min(bound, longest) for count, bound in zip(self.counts, (*BOUNDS, longest), strict=True))
        if not least - _ROUNDING <= self.sum <= most + _ROUNDING:
            return f"{number} tasks with {self.sum:.0f} s in all, from a process of {age:.0f} s"
        return ""


def objection(told: Mapping[str, Histogram], age: float) -> str:
    """Return why a process that is `age` seconds old can't have counted these; empty if it can."""
    return next((text for one in told.values() if (text := one.objection(age))), "")


def count(told: Mapping[str, Histogram], counted: Mapping[str, Histogram] | None) -> Mapping[str, Histogram]:
    """Count what is new in what a process has told, and return what is counted of it now.

    `counted` is what was counted before; None if an earlier broker may have counted some, which nobody knows any more:
    then all that has been told is taken as counted. Raise `ValueError` if the process takes back what was counted.
    """
    if counted is None:
        return told
    grown = {name: now.since(counted.get(name, Histogram())) for name, now in told.items()}
    for name, more in grown.items():
        _HISTOGRAMS[name].add(more.counts, more.sum)
    return {**counted, **told}
