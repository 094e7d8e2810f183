"""The events that viewers get (server-sent events), however many they are: the broker is asked once for all.

A viewer that takes no event in time is disconnected. While it takes one, the pictures that come are skipped, so at most
one event waits for it.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator

from twinlock_broker.console.snapshot import Snapshot
from twinlock_broker.console.viewer import Viewer

MOST = 200
"""Viewers at a time."""

MOST_OF_USER = 10
"""Viewers at a time with the same account: a browser with many tabs, and no more."""

STALL_LIMIT = 30.0
"""Seconds for a viewer to take an event."""

LIFETIME = 600.0
"""Seconds after which a browser has to connect anew, which it does by itself: rights may have changed."""

SERIES_PERIOD = 10.0
"""Seconds between two events with the series for plots."""

Send = Callable[[bytes], Awaitable[None]]
"""A function that sends bytes to a viewer, and returns when it has taken most of them."""


class Crowded(Exception):
    """There are as many viewers as there may be; the text says of which."""


class Stream:
    """The viewers that are connected, and what they are shown."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        """The newest one."""
        self.arrived: Callable[[], None] = lambda: None
        """Called when somebody begins to look and nobody else does: what there is to show may be old."""
        self._changed = asyncio.Event()
        self._open: Counter[str] = Counter()

    @property
    def viewers(self) -> int:
        """How many there are."""
        return self._open.total()

    def publish(self, snapshot: Snapshot) -> None:
        """Have all viewers shown this."""
        self.snapshot = snapshot
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    @contextlib.contextmanager
    def admitted(self, viewer: Viewer) -> Iterator[None]:
        """Count a viewer while the block runs. Raise `Crowded`."""
        if self.viewers >= MOST:
            raise Crowded(f"{MOST} people look at this page already; it will connect when somebody leaves")
        if self._open[viewer.user] >= MOST_OF_USER:
            raise Crowded(f"you have this page open {MOST_OF_USER} times already; close one of them")
        if not self.viewers:
            self.arrived()
        self._open[viewer.user] += 1
        try:
            yield
        finally:
            self._open[viewer.user] -= 1
            self._open += Counter()  # without those that have none

    async def feed(self, viewer: Viewer, send: Send) -> None:
        """Send what changes, without end. Raise `TimeoutError` if the viewer doesn't take it."""
        loop = asyncio.get_running_loop()
        failures, series_due = b"", loop.time()
        while True:
            snapshot, changed = self.snapshot, self._changed
            await _send(send, snapshot.event("state", viewer))
            found = snapshot.event("failures", viewer)
            if found != failures:
                failures = found
                await _send(send, found)
            if loop.time() >= series_due:
                series_due = loop.time() + SERIES_PERIOD
                await _send(send, snapshot.event("series", viewer))
            await changed.wait()


async def _send(send: Send, event: bytes) -> None:
    async with asyncio.timeout(STALL_LIMIT):
        await send(event)
