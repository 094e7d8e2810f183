"""What the console remembers since it was started: series for plots, and what became of endpoints; in memory only."""

import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from twinlock_broker.console.increases import Increases
from twinlock_broker.console.lifelines import Lifelines, Row
from twinlock_broker.console.series import POINTS
from twinlock_broker.console.start_tracks import StartTracks
from twinlock_broker.console.tracks import Track, Tracks
from twinlock_broker.top.figures import Figures, of_row, total

_RUNNING = "running"

_LOOKS = 15
"""The last looks at an endpoint by which its pace is known: half a minute while somebody looks at the page."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """An endpoint in a picture."""

    user: str
    """The account."""
    ended: float
    """Tasks that have ended since the last picture."""
    running: int
    """1 if it runs, else 0."""
    figures: Figures
    """What it told."""


class History:
    """The past `hours`. `clock` returns seconds since 1970, and never goes back."""

    def __init__(self, hours: float, clock: "Clock") -> None:
        self._length = hours * 3600 / POINTS
        self._clock = clock
        self._done = Increases()
        self._all = Track()
        self._starts = StartTracks()
        self._users = Tracks()
        self._endpoints = Tracks()
        self._paces: dict[str, Pace] = {}
        self.lifelines = Lifelines()
        """What became of endpoints."""

    def note(self, answer: Mapping[str, Any]) -> None:
        """Note a broker's answer to `status`, with the one to `starts` as `start_figures`."""
        now = self._clock()
        step, rows = self._step(now), answer["endpoints"]
        ended = {row["id"]: self._ended(row) for row in rows}
        self._paces = {name: self._paces.get(name, Pace()) for name in ended}
        for name, tasks in ended.items():
            self._paces[name].note(now, tasks)
        self._done.keep(ended.keys())
        seen = [_Seen(row["user"], ended[row["id"]], int(row["state"] == _RUNNING), of_row(row)) for row in rows]
        for row, one in zip(rows, seen, strict=True):
            self._endpoints.note(row["id"], step, one.ended, one.running, one.figures)
        for user, own in groupby(sorted(seen, key=_user), key=_user):
            self._users.note(user, step, *_summed(list(own)))
        self._all.note(step, *_summed(seen))
        self._starts.note(step, answer["started"], answer["start_figures"])
        self.lifelines.note(rows, now)

    def rate(self, endpoint_id: str) -> float | None:
        """Return the tasks a second of an endpoint of late; None if it isn't known."""
        return self._paces[endpoint_id].rate() if endpoint_id in self._paces else None

    def of_all(self) -> dict[str, Any]:
        """Return the series of all endpoints, and of starts."""
        return self._shown(self._all) | self._starts.until(self._step(self._clock()))

    def of_user(self, user: str) -> dict[str, Any]:
        """Return the series of a person's endpoints."""
        return self._shown(self._users.known.get(user, Track()))

    def of_endpoint(self, endpoint_id: str) -> dict[str, Any]:
        """Return the series of an endpoint."""
        return self._shown(self._endpoints.known.get(endpoint_id, Track()))

    def _shown(self, track: Track) -> dict[str, Any]:
        now = self._clock()
        step = self._step(now)
        times = [one * self._length for one in range(step - POINTS + 1, step + 1)]
        lengths = [self._length] * (POINTS - 1) + [max(1.0, now - step * self._length)]
        return {"time": times} | track.until(step, lengths)

    def _step(self, now: float) -> int:
        return int(now / self._length)

    def _ended(self, row: Row) -> float:
        """Return how many tasks of an endpoint have ended since the last picture; what was before the first isn't."""
        done = (row["figures"] or {}).get("done_tasks")
        return 0.0 if done is None else self._done.of(row["id"], done, unseen=done)


class Pace:
    """How many tasks an endpoint has ended of late: those of one look at it say little where tasks take seconds."""

    def __init__(self) -> None:
        self._looks: deque[tuple[float, float]] = deque(maxlen=_LOOKS)

    def note(self, now: float, tasks: float) -> None:
        """Note that so many have ended since the last look."""
        self._looks.append((now, tasks))

    def rate(self) -> float | None:
        """Return the tasks a second; None after one look only."""
        (first, _), *others = self._looks
        return sum(tasks for _, tasks in others) / (others[-1][0] - first) if others else None


class Clock:
    """The time of day as it was at the beginning, and what has passed since: nobody sets it back."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def __call__(self) -> float:
        """Return the time in seconds since 1970."""
        return time.monotonic() + self._offset


def _summed(several: Sequence[_Seen]) -> tuple[float, int, Figures]:
    """Return what a track notes of these endpoints together."""
    figures = total(one.figures for one in several)
    return sum(one.ended for one in several), sum(one.running for one in several), figures


def _user(one: _Seen) -> str:
    return one.user
