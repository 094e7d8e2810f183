"""Clocks for an endpoint that may have to end: how long its queues are out of reach, and how long nothing has come."""

import asyncio
from collections.abc import Callable


class Outage:
    """Since when there has been no connection to the task queue. An endpoint begins without one."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._since: float | None = self._loop.time()

    def begin(self) -> None:
        """Note that the connection is lost, or still is."""
        if self._since is None:
            self._since = self._loop.time()

    def end(self) -> None:
        """Note that there is a connection."""
        self._since = None

    @property
    def lasts(self) -> bool:
        """Whether there is none now."""
        return self._since is not None

    @property
    def seconds(self) -> float:
        """How long it has lasted by now."""
        return 0.0 if self._since is None else self._loop.time() - self._since


class Quiet:
    """A clock that calls `tell` whenever nothing has come for `seconds` seconds, again and again, once it has begun."""

    def __init__(self, seconds: float, tell: Callable[[], None]) -> None:
        self._seconds = seconds
        self._tell = tell
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Count from now on."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._over)

    def something_came(self) -> None:
        """Count anew, if the clock has begun."""
        if self._timer is not None:
            self.begin()

    def _over(self) -> None:
        self.begin()
        self._tell()
