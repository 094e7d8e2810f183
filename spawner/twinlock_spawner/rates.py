"""How many starts a second: a bucket for each account, and one for all together."""

import time

BURST = 20.0
"""Seconds' worth of starts that may come at once."""

_LEAST = 1.1 / BURST
"""Starts a second at the least, or else not a single one would fit into a burst."""

EVERYBODY = ""
"""Who pays for all accounts together; no account's name is empty."""


class Rates:
    """Until when each has paid for its starts, as `time.monotonic` has it. Whose time is in the future has to wait."""

    def __init__(self) -> None:
        self._paid: dict[str, float] = {}

    def wait(self, who: str, rate: float) -> float:
        """Return the seconds after which one more start is paid for at that rate; not above 0: now."""
        return self._after(who, rate, 1.0) - time.monotonic()

    def pay(self, who: str, rate: float, starts: float = 1.0) -> None:
        """Charge for so many starts, and forget who has nothing left to pay."""
        paid = self._after(who, rate, starts)
        idle = time.monotonic() - BURST
        self._paid = {name: until for name, until in self._paid.items() if until > idle}
        self._paid[who] = paid

    def _after(self, who: str, rate: float, starts: float) -> float:
        begin = max(self._paid.get(who, 0.0), time.monotonic() - BURST)
        return begin + starts / max(rate, _LEAST)
