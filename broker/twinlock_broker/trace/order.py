"""The order of events. The spawner's log has whole seconds, so what the broker says of the same second decides."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from twinlock_broker.endpoints.registry import Action
from twinlock_broker.endpoints.registry import Event as Happened
from twinlock_broker.trace.event import Event, Source, Step

_Numbered = tuple[int, Event]

_STARTS = (Action.START.value,)
_STOPS = (Action.STOP.value, Action.REPLACE.value, Action.STOP_AGAIN.value)
_CAUSES = {Step.START: _STARTS, Step.SIGNAL: _STOPS, Step.END: (*_STARTS, *_STOPS)}
"""How lines of the broker's log end that the spawner's follow."""

_ENDS = (
    Happened.REFUSED,
    Happened.STOPPED,
    Happened.RESTART_WANTED,
    Happened.CRASHED,
    Happened.FAILED,
    Happened.FAILED_TO_START,
    Happened.UNFINISHED,
)
_ENDED = tuple(happened.value for happened in _ENDS)
_EFFECTS = {Step.START: (Happened.SPAWNED.value,), Step.SIGNAL: _ENDED, Step.END: _ENDED}
"""How lines of the broker's log begin that follow the spawner's."""


def in_order(events: Iterable[Event]) -> list[Event]:
    """Return the events by their times, and by cause and effect where the spawner's times leave that open."""
    given = list(enumerate(events))
    beside: dict[tuple[str, int], list[_Numbered]] = defaultdict(list)
    for number, event in given:
        if event.source is Source.BROKER:
            beside[_second(event)].append((number, event))
    given.sort(key=lambda numbered: _place(numbered, beside[_second(numbered[1])]))
    return [event for _, event in given]


def _second(event: Event) -> tuple[str, int]:
    return event.endpoint, int(event.time)


def _place(numbered: _Numbered, beside: Sequence[_Numbered]) -> tuple[float, int, int]:
    """Return what an event sorts by; `beside` are the broker's events about its endpoint in the same second."""
    number, event = numbered
    if event.step is None:
        return event.time, number, 0
    causes, effects = _CAUSES[event.step], _EFFECTS[event.step]
    before = [(each.time, place, 1) for place, each in beside if each.text.endswith(causes)]
    after = [(each.time, place, -1) for place, each in beside if each.text.startswith(effects)]
    if before and event.step is not Step.END:
        return max(before)
    if after:
        return max(after)
    return max(before, default=(event.time, -1, 0))
