"""What is remembered of an endpoint, of a person's endpoints together, or of all."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from twinlock_broker.console.series import Series
from twinlock_broker.top.figures import Figures

MOST = 2000
"""Tracks of endpoints, and as many of people, of 8 KB each.

One more takes the place of the one that was noted longest ago, unless that is still there: it then has none.
"""


class Track:
    """Series of what one or several endpoints did."""

    def __init__(self) -> None:
        self.noted = -1
        """The step of the last note."""
        self._tasks = Series()
        self._of_now = {name: Series() for name in ("endpoints", "running", "queued", "memory")}

    def note(self, step: int, ended: float, endpoints: int, figures: Figures) -> None:
        """Note that so many tasks have ended since the last time, that so many endpoints run, and their figures."""
        self.noted = step
        self._tasks.add(step, ended)
        now = {"running": figures.running, "queued": figures.queued, "memory": figures.memory}
        for name, value in {"endpoints": float(endpoints), **now}.items():
            if value is not None:
                self._of_now[name].put(step, value)

    def until(self, step: int, lengths: list[float]) -> dict[str, list[float | None]]:
        """Return the series that end with this step, by their names; `lengths` are the steps' in seconds."""
        ended = zip(self._tasks.until(step), lengths, strict=True)
        rates = [None if tasks is None else tasks / length for tasks, length in ended]
        return {"rate": rates} | {name: series.until(step) for name, series in self._of_now.items()}


class Tracks:
    """Tracks by name, the one that was noted longest ago first."""

    def __init__(self) -> None:
        self._tracks: OrderedDict[str, Track] = OrderedDict()

    def note(self, name: str, step: int, *noted: Any) -> None:
        """Note it in the track of this name, if there is room for one; the arguments are those of `Track.note`."""
        if name not in self._tracks:
            if not self._has_room(step):
                return
            self._tracks[name] = Track()
        self._tracks[name].note(step, *noted)
        self._tracks.move_to_end(name)

    def _has_room(self, step: int) -> bool:
        if len(self._tracks) < MOST:
            return True
        oldest, track = next(iter(self._tracks.items()))
        if track.noted >= step - 1:  # it may just not have had its turn yet in this step
            return False
        del self._tracks[oldest]
        return True

    @property
    def known(self) -> Mapping[str, Track]:
        """The tracks."""
        return self._tracks
