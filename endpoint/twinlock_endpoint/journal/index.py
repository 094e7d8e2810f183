"""Where in the segments the records of unfinished tasks lie; a segment without any is not needed."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from twinlock_endpoint.journal.records import Kind


class Place(NamedTuple):
    """Where a frame is."""

    segment: int
    """The segment's number."""
    offset: int
    """Where it begins in the segment, in bytes."""
    length: int
    """In bytes."""


class Index:
    """The newest record of each kind for each unfinished task."""

    def __init__(self) -> None:
        self._places: defaultdict[str, dict[Kind, Place]] = defaultdict(dict)
        self._needed: Counter[int] = Counter()
        self.bytes = 0
        """The size of all records that are needed."""

    def __contains__(self, task_id: str) -> bool:
        return task_id in self._places

    def note(self, kind: Kind, task_id: str, place: Place) -> None:
        """Note a record that was written or read; records come in the order in which they were written."""
        if kind is Kind.DONE:
            for former in self._places.pop(task_id, {}).values():
                self._subtract(former)
            return
        self.forget(kind, task_id)
        self._places[task_id][kind] = place
        self._needed[place.segment] += 1
        self.bytes += place.length

    def forget(self, kind: Kind, task_id: str) -> None:
        """Drop a record that can't be read any more, or has a newer one in its place."""
        former = self._places[task_id].pop(kind, None)
        if former is not None:
            self._subtract(former)

    def needs(self, segment: int) -> bool:
        """Return whether anything in that segment is needed."""
        return self._needed[segment] > 0

    def of(self, segment: int) -> Iterator[tuple[Kind, str, Place]]:
        """Yield what is needed of that segment."""
        for task_id, places in self._places.items():
            for kind, place in places.items():
                if place.segment == segment:
                    yield kind, task_id, place

    def _subtract(self, place: Place) -> None:
        self._needed[place.segment] -= 1
        self.bytes -= place.length
        if not self._needed[place.segment]:
            del self._needed[place.segment]
