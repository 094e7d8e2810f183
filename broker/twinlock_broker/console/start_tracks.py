"""What is remembered of starts: how many had which outcome, and how long they took."""

from collections.abc import Mapping, Sequence
from typing import Any

from twinlock_broker.console.increases import Increases
from twinlock_broker.console.quantiles import quantile
from twinlock_broker.console.series import Series

QUANTILES = {"median": 0.5, "p95": 0.95}

_MOST_OUTCOMES = 40


class StartTracks:
    """Series of the starts by outcome, and of the times that those of a step took."""

    def __init__(self) -> None:
        self._increases = Increases()
        self._outcomes: dict[str, Series] = {}
        self._times = {name: Series() for name in QUANTILES}
        self._step = -1
        self._counts: list[float] = []
        self._broker: float | None = None

    def note(self, step: int, broker: float, figures: Mapping[str, Any]) -> None:
        """Note the answer to `starts` of the broker that was started at this time, in seconds since 1970.

        What was before the first answer isn't counted. Another broker has counted from 0.
        """
        if self._broker not in (None, broker):
            self._increases.keep(())
        for outcome, total in figures["starts"].items():
            grown = self._grown(outcome, total)
            if outcome in self._outcomes or len(self._outcomes) < _MOST_OUTCOMES:
                self._outcomes.setdefault(outcome, Series()).add(step, grown)
        self._note_times(step, figures["seconds"])
        self._broker = broker

    def until(self, step: int) -> dict[str, Any]:
        """Return the series that end with this step: `outcomes` by name, and the quantiles in seconds."""
        outcomes = {outcome: series.until(step) for outcome, series in self._outcomes.items()}
        return {"outcomes": outcomes} | {name: series.until(step) for name, series in self._times.items()}

    def _grown(self, name: object, total: float) -> float:
        return self._increases.of(name, total, unseen=total if self._broker is None else 0.0)

    def _note_times(self, step: int, times: Mapping[str, Sequence[float]]) -> None:
        grown = [self._grown(place, total) for place, total in enumerate(times["counts"])]
        if step != self._step or len(grown) != len(self._counts):
            self._step, self._counts = step, [0.0] * len(grown)
        self._counts = [before + more for before, more in zip(self._counts, grown, strict=True)]
        for name, part in QUANTILES.items():
            value = quantile(part, times["bounds"], self._counts)
            if value is not None:
                self._times[name].put(step, value)
