"""The audit log of task events at high assurance endpoints as events, see `twinlock_broker.audit`.

The broker knows time, uid, pid and uep of a line by itself. The rest is the endpoint's word about its own tasks.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime

from twinlock_broker.trace.event import Event, Source
from twinlock_broker.trace.log_files import Lines

_UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_LINE = re.compile(
    rf"(\S{{19,40}}) uid=\d+ pid=\d+ uep=({_UUID}) (?:fid=(\S+) tid=(\S+) bid=(?:\S*) +(?:jid=\S+ )?)?(.*)\n?"
)
_BEGUN = ("RECEIVED", "EXEC_START")
_SUCCESS = "EXEC_END"


def events(lines: Lines, since: float) -> Iterator[Event]:
    """Yield the events from `since` on, in seconds since 1970; lines of another form are passed over.

    Raises:
        OSError: it can't be read.
    """
    for line in lines():
        event = read(line.decode("utf-8", "replace"))
        if event is not None and event.time >= since:
            yield event


def read(line: str) -> Event | None:
    """Return the event of a line; None if it isn't about an endpoint."""
    found = _LINE.fullmatch(line)
    if found is None:
        return None
    written, endpoint, function, task, said = found.groups()
    try:
        moment = datetime.fromisoformat(written).timestamp()
    except ValueError:
        return None
    tasks = (task, function) if task else ()
    text = f"task {task} of function {function}: {said}" if task else said
    return Event(moment, Source.AUDIT, text, endpoint=endpoint, tasks=tasks)


def summary(events: Iterable[Event]) -> Iterator[Event]:
    """Yield the events with one for each request in the place of those about its tasks, at the end of the last task."""
    by_run: dict[tuple[str, str], list[Event]] = defaultdict(list)
    for event in events:
        if event.source is not Source.AUDIT or not event.tasks:
            yield event
        elif not event.text.partition(": ")[2].startswith(_BEGUN):
            by_run[event.endpoint, event.request].append(event)
    for (endpoint, request), ended in by_run.items():
        failed = sum(not event.text.endswith(f": {_SUCCESS}") for event in ended)
        functions = len({event.tasks[1] for event in ended})
        text = f"tasks that ended: {len(ended)}, functions: {functions}, failures: {failed}"
        yield Event(ended[-1].time, Source.AUDIT, text, request, endpoint)
