"""The attempts to submit blocks: when the next one is due, and what stands in the way.

An attempt fails because the scheduler refuses the job, or because it can't be reached. The second is temporary.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

_FIRST_DELAY_S = 2.0
_LONGEST_DELAY_S = 60.0
_LONGEST_WORDS = 300


@dataclass(frozen=True, slots=True)
class Outage:
    """A time when the scheduler can't be reached, or doesn't answer."""

    since: float
    """By the monotonic clock, in seconds."""
    words: str
    """The scheduler's, or its command's."""

    def brief(self) -> str:
        """Return the words, on one line and with a limit."""
        return " ".join(self.words.split())[:_LONGEST_WORDS]


class Submissions:
    """The attempts of one executor. All times are in seconds, by the monotonic clock."""

    def __init__(self, max_outage_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin without any attempt. An outage is waited for `max_outage_s` seconds at most."""
        self.max_outage_s = max_outage_s
        """The longest outage that is waited for."""
        self._clock = clock
        self._due = float("-inf")
        self._delay_s = _FIRST_DELAY_S
        self.refused = 0
        """The number of refusals since the scheduler last took a job."""
        self.outage: Outage | None = None
        """The outage that goes on; None while there is none."""
        self._words = ""

    def due(self) -> bool:
        """Return whether the scheduler may be asked for a block now."""
        return self._clock() >= self._due

    def accepted(self) -> None:
        """Note that the scheduler took a job."""
        self._due, self._delay_s = float("-inf"), _FIRST_DELAY_S
        self.refused, self.outage, self._words = 0, None, ""

    def refuse(self, words: str) -> None:
        """Note that the scheduler refused a job."""
        self.outage = None
        self.refused += 1
        self._put_off(words)

    def miss(self, words: str) -> None:
        """Note that the scheduler could not be reached."""
        since = self.outage.since if self.outage else self._clock()
        self.outage = Outage(since, words)
        self._put_off(words)

    def outlasted(self) -> bool:
        """Return whether the scheduler was out of reach for longer than is waited for."""
        return self.outage is not None and self._clock() > self.outage.since + self.max_outage_s

    def condition(self) -> str:
        """Return a sentence about what stands in the way; empty while nothing does."""
        words = " ".join(self._words.split())[:_LONGEST_WORDS]
        if self.outage is not None:
            minutes = (self._clock() - self.outage.since) / 60
            limit = self.max_outage_s / 60
            return f"The scheduler can't be reached, for {minutes:.0f} of at most {limit:.0f} minutes so far: {words}"
        if self.refused:
            return f"The scheduler refused the last {self.refused} job(s): {words}"
        return ""

    def _put_off(self, words: str) -> None:
        self._words = words
        self._due = self._clock() + self._delay_s
        self._delay_s = min(_LONGEST_DELAY_S, 2 * self._delay_s)
