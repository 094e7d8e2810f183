"""The events that belong to what was searched for, with the requests that they belong to."""

from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain

from twinlock_broker.trace.event import Event, Source, Step
from twinlock_broker.trace.search import Search

MOST = 20_000
"""Events of a source that are kept, the newest ones."""

SLACK = 5.0
"""Seconds for which events without a request's id belong to the one whose end was just recorded."""


@dataclass(slots=True)
class Run:
    """What is known of one endpoint's life for one request."""

    request: str
    """Empty if the broker or the spawner was of a version without request ids."""
    endpoint: str
    user: str = ""
    person: str = ""
    name: str = ""
    """``uep.MANAGER.ENDPOINT``; empty if the spawner's log doesn't have it."""
    pid: int = 0
    """Its last process."""
    begin: float = float("inf")
    """The first that is known of it, in seconds since 1970."""
    end: float = float("-inf")
    """The last that is known of it."""
    outcome: str = ""
    """How its last process ended, or why there was none; empty while that isn't known."""

    def note(self, event: Event) -> None:
        """Take over what an event says."""
        self.user, self.person = event.user or self.user, event.person or self.person
        self.name, self.pid = event.name or self.name, event.pid or self.pid
        self.begin, self.end = min(self.begin, event.time), max(self.end, event.time)
        if event.source is Source.SPAWNER:
            self.outcome = event.text if event.step is Step.END else ""

    def has(self, time: float) -> bool:
        """Return whether something may have happened during this run."""
        runs_on = bool(self.pid) and not self.outcome
        return self.begin - SLACK <= time and (runs_on or time <= self.end + SLACK)


class Selection:
    """The events that `search` leads to."""

    def __init__(self, search: Search) -> None:
        self._search = search
        self._kept: dict[Source, deque[Event]] = defaultdict(lambda: deque(maxlen=MOST))
        self._loose: dict[Source, deque[Event]] = defaultdict(lambda: deque(maxlen=MOST))
        self.left_out = 0
        """How many older events there are."""
        self.runs: dict[tuple[str, str], Run] = {}
        """What the events have of each endpoint and request."""

    def take(self, event: Event) -> None:
        """Keep the event if it belongs to what is wanted."""
        wanted = self._search
        if event.request in wanted.requests or event.endpoint in wanted.endpoints or event.user in wanted.accounts:
            self._keep(event)
        elif not event.request and event.endpoint in wanted.linked:
            self._loose[event.source].append(event)

    def _keep(self, event: Event) -> None:
        kept = self._kept[event.source]
        self.left_out += len(kept) == MOST
        kept.append(event)
        if event.endpoint and (event.request or event.step in (Step.START, Step.END)):
            key = event.endpoint, event.request
            self.runs.setdefault(key, Run(event.request, event.endpoint)).note(event)

    def events(self) -> Iterator[Event]:
        """Yield the events; those without a request's id get that of the run in whose time they are."""
        by_endpoint = defaultdict(list)
        for run in self.runs.values():
            by_endpoint[run.endpoint].append(run)
        for event in chain.from_iterable(self._kept.values()):
            yield event if event.request else _belonging(event, by_endpoint[event.endpoint]) or event
        for event in chain.from_iterable(self._loose.values()):
            found = _belonging(event, by_endpoint[event.endpoint])
            if found is not None:
                yield found


def _belonging(event: Event, runs: list[Run]) -> Event | None:
    """Return the event with the request id of the last run that it may be of; None if it is of none."""
    found = [run for run in runs if run.has(event.time)]
    return replace(event, request=max(found, key=lambda run: run.begin).request) if found else None
