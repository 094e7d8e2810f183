"""The trace: from a word to the events of all sources."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from twinlock_broker.errors import Fatal
from twinlock_broker.trace import processes, scheduler, task_audit
from twinlock_broker.trace.event import Event, Step
from twinlock_broker.trace.live import Broker
from twinlock_broker.trace.order import in_order
from twinlock_broker.trace.search import Search
from twinlock_broker.trace.selection import Run, Selection
from twinlock_broker.trace.sources import Logs
from twinlock_broker.trace.user_logs import UserLogs


@dataclass(frozen=True, slots=True)
class Trace:
    """What was found."""

    meanings: list[str]
    """What the word was taken for."""
    runs: list[Run]
    """The endpoints and requests, the oldest first."""
    events: list[Event]
    """All events in order."""
    left_out: int
    """How many older events there are."""


def trace(word: str, logs: Logs, socket: Path, with_tasks: bool) -> Trace:
    """Return what the sources have about the word; `logs.problems` says what couldn't be read.

    `socket` is the broker's admin socket. `with_tasks` wants each task, not only how many there were.
    """
    broker = _broker(socket, logs)
    now = [event for event in broker.events() if event.time >= logs.since] if broker else []
    job = scheduler.ask([word]).get(word)
    search = Search(word, job.user if job else "")
    if job is not None:
        search.meanings[f"the batch job {word} of {job.user}, by the scheduler"] = None
    now += _find(search, logs, now)
    selection = Selection(search)
    for event in logs.events():
        selection.take(event)
    for event in now:
        selection.take(event)
    events = list(selection.events() if with_tasks else task_audit.summary(selection.events()))
    runs = sorted(selection.runs.values(), key=lambda run: run.begin)
    events += _processes(events)
    events += UserLogs(broker, logs.problems, with_tasks).events(runs, events)
    if job is not None and not any(job.id in event.jobs for event in events):
        events += job.events("", "")
    return Trace(list(search.meanings), runs, in_order(events), selection.left_out)


def _broker(socket: Path, logs: Logs) -> Broker | None:
    try:
        return Broker(socket)
    except Fatal as error:
        logs.problems.append(str(error))
        return None


def _find(search: Search, logs: Logs, now: Iterable[Event]) -> list[Event]:
    """Look for the word in all logs, and among the processes; return what is known of a process with that number."""
    running: dict[int, Event] = {}
    for event in chain(logs.events(), now):
        search.look(event)
        _note_process(running, event)
    endpoint = processes.endpoint_of(search.number, running) if search.number else ""
    if not endpoint or search.number in running:
        return []
    own = [event for pid, event in running.items() if event.endpoint == endpoint and processes.is_it(pid, event)]
    search.add_process(endpoint, own[-1].request if own else "")
    found = processes.describe(search.number, endpoint)
    return [found] if found else []


def _processes(events: Iterable[Event]) -> list[Event]:
    """Return what the kernel says of the endpoints' processes that run."""
    running: dict[int, Event] = {}
    for event in events:
        _note_process(running, event)
    described = []
    for pid, event in running.items():
        found = processes.describe(pid, event.endpoint, event.request, event.user)
        if found is not None and processes.is_it(pid, event):
            described.append(replace(found, pid=pid))
    return described


def _note_process(running: dict[int, Event], event: Event) -> None:
    """Note whose a process is, by the last event about it; what the broker says now has no request's id."""
    before = running.pop(event.pid, None)
    if event.pid and event.step is not Step.END:
        request = before.request if before is not None and before.endpoint == event.endpoint else ""
        running[event.pid] = replace(event, request=event.request or request)
