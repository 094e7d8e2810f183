"""What endpoints have said last about themselves, and the requests to say it anew while somebody looks.

An endpoint that understands requests for reports says so. One of an earlier version would break the connection, so it
isn't asked, and is shown as of its last heartbeat.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from twinlock_broker.control import messages

FRESH = 2.0
"""Seconds for which figures count as those of now."""

WAIT = 0.5
"""Seconds that somebody who looks waits for all reports together: an endpoint may be hung."""

_BETWEEN = 1.0
"""Seconds between two requests to an endpoint, however many people look."""


@dataclass(frozen=True, slots=True)
class Told:
    """A message `figures`."""

    figures: dict[str, float]
    """Numbers by name."""
    condition: str
    """What is in the way of its tasks; empty if nothing is."""
    jobs: list[str]
    """The ids of its batch jobs."""
    reports: bool
    """It understands a request for a report."""
    at: float
    """When it came, by time.monotonic()."""


NOTHING = Told({}, "", [], reports=False, at=float("-inf"))
"""An endpoint that hasn't said anything."""


def read(message: dict[str, Any]) -> Told:
    """Return what an endpoint says. Raise `ValueError` if it makes no sense."""
    return Told(
        messages.read_figures(message),
        messages.read_condition(message),
        messages.read_jobs(message),
        reports=message.get("reports") is True,
        at=time.monotonic(),
    )


class Tellers:
    """The connected endpoints, by their uuids. `ask` sends an endpoint a request for a report."""

    def __init__(self, ask: Callable[[str], None]) -> None:
        self._ask = ask
        self._told: dict[str, Told] = {}
        self._asked: dict[str, float] = {}
        self._awaited: dict[str, asyncio.Future[None]] = {}

    def of(self, endpoint_id: str) -> Told:
        """Return what the endpoint said last."""
        return self._told.get(endpoint_id, NOTHING)

    def total(self, figure: str) -> float:
        """Return the sum of a figure over all endpoints."""
        return sum(told.figures.get(figure, 0) for told in self._told.values())

    def note(self, endpoint_id: str, told: Told) -> None:
        """Note what an endpoint has said."""
        self._told[endpoint_id] = told
        self._wait_no_longer(endpoint_id)

    def forget(self, endpoint_id: str) -> None:
        """Forget an endpoint that isn't connected any more."""
        self._told.pop(endpoint_id, None)
        self._asked.pop(endpoint_id, None)
        self._wait_no_longer(endpoint_id)

    async def refresh(self, endpoint_ids: Iterable[str]) -> None:
        """Ask for reports, and wait for those of endpoints whose figures aren't fresh, at most `WAIT` seconds."""
        asked = [endpoint_id for endpoint_id in endpoint_ids if self.of(endpoint_id).reports]
        for endpoint_id in asked:
            self._ask_again(endpoint_id)
        now = time.monotonic()
        awaited = [self._report_of(endpoint_id) for endpoint_id in asked if now - self.of(endpoint_id).at > FRESH]
        if awaited:
            await asyncio.wait(awaited, timeout=WAIT)

    def _ask_again(self, endpoint_id: str) -> None:
        now = time.monotonic()
        if now - self._asked.get(endpoint_id, float("-inf")) >= _BETWEEN:
            self._asked[endpoint_id] = now
            self._ask(endpoint_id)

    def _report_of(self, endpoint_id: str) -> asyncio.Future[None]:
        """Return a future of the endpoint's next message, shared by all who wait for it."""
        return self._awaited.setdefault(endpoint_id, asyncio.get_running_loop().create_future())

    def _wait_no_longer(self, endpoint_id: str) -> None:
        awaited = self._awaited.pop(endpoint_id, None)
        if awaited is not None:
            awaited.set_result(None)
