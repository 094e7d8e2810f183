"""When an endpoint that has nothing to do shuts down, counted in heartbeats as the agent counts them."""

import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Idle:
    """What a heartbeat found."""

    word: str = ""
    """Its state for people; empty while it is busy."""
    seconds_left: float = 0
    """Seconds until the shutdown as the agent shows them, without the last period of the hard limit."""
    over: bool = False
    """It is time to shut down."""

    def title(self, usual: str) -> str:
        """Return the process's title for people: the usual one, with what was found in front of it."""
        return f"[{self.word}; shut down in {self.seconds_left:,.0f}s] {usual}" if self.word else usual


class IdleClock:
    """A count of heartbeats without movement.

    `soft` of them shut the endpoint down when work was done and none is left; `hard` of them always, to get rid of
    endpoints that never had a task or whose workers will never answer. A soft limit of 0 switches both off.
    """

    def __init__(self, soft: int, hard: int, period_s: float, restarted: bool = False) -> None:
        """Begin to count. With `restarted`, work was done before the start, by a predecessor."""
        self._worked_before = restarted
        self._soft = soft
        self._hard = max(soft + 1, hard)
        self._period_s = period_s
        self._moved = (0, 0)
        self._still_soft = 0
        self._still = 0
        self._found = Idle()
        self._found_at = 0.0

    def beat(self, received: int, settled: int) -> Idle:
        """Count one heartbeat, with the numbers of tasks that came and that were settled since the start."""
        self._found = self._count(received, settled)
        self._found_at = time.monotonic()
        return self._found

    def seconds_left(self, received: int, settled: int) -> float | None:
        """Return the seconds until the shutdown, by the last heartbeat; None while it is busy, or has no limit."""
        if not self._found.word or (received, settled) != self._moved:
            return None
        return max(0.0, round(self._found.seconds_left - (time.monotonic() - self._found_at), 1))

    def _count(self, received: int, settled: int) -> Idle:
        if not self._soft:
            return Idle()
        if (received, settled) != self._moved:
            self._moved = (received, settled)
            self._still = self._still_soft = 0
            return Idle()
        self._still += 1
        if (settled or self._worked_before) and settled >= received:
            self._still_soft += 1
            return self._left("idle", self._soft - self._still_soft, self._still_soft >= self._soft)
        if self._still > self._soft:
            return self._left("possibly idle", self._hard - self._still, self._still > self._hard)
        return Idle()

    def _left(self, word: str, beats: int, over: bool) -> Idle:
        return Idle(word, max(0, beats) * self._period_s, over)
