"""Which states endpoints went through, and those that have ended."""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from twinlock_broker.fair_ring import FairRing

MOST_STATES = 20
"""States of an endpoint that are kept."""

MOST_ENDED = 200
"""Endpoints that have ended, and of which something is still known."""

ENDED = "ended"

Row = Mapping[str, Any]
"""An endpoint's row of the broker's answer."""


@dataclass(slots=True)
class Lifeline:
    """What became of an endpoint."""

    row: Row
    """As the broker had it last."""
    states: deque[tuple[float, str]] = field(default_factory=lambda: deque(maxlen=MOST_STATES))
    """Its states, each with the time since 1970 at which it was first seen."""


class Lifelines:
    """The endpoints that there are, and the last ones that there were."""

    def __init__(self) -> None:
        self._present: dict[str, Lifeline] = {}
        self._ended: FairRing[Lifeline] = FairRing(MOST_ENDED)

    def note(self, rows: Iterable[Row], now: float) -> None:
        """Note the rows of the broker's answer. `now` is in seconds since 1970."""
        present = {row["id"]: row for row in rows}
        for endpoint_id in self._present.keys() - present.keys():
            gone = self._present.pop(endpoint_id)
            gone.states.append((now, ENDED))
            self._ended.add(gone.row["user"], gone)
        for endpoint_id, row in present.items():
            lifeline = self._present.setdefault(endpoint_id, Lifeline(row))
            lifeline.row = row
            if not lifeline.states or lifeline.states[-1][1] != row["state"]:
                lifeline.states.append((now, row["state"]))

    def ended(self) -> list[Lifeline]:
        """Return those that have ended, the last one first."""
        return list(self._ended)[::-1]

    def of(self, endpoint_id: str) -> Lifeline | None:
        """Return an endpoint's, be it there or not; None if it isn't known."""
        known = [self._present[endpoint_id]] if endpoint_id in self._present else self.ended()
        return next((lifeline for lifeline in known if lifeline.row["id"] == endpoint_id), None)
