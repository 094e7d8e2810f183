"""Tasks that ended, as an endpoint lists them in the file `tasks.log` of its folder."""

import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from twinlock_broker.trace.event import Event, Source
from twinlock_broker.trace.selection import Run

MOST = 10_000
"""Tasks of a run that are shown one by one, the last ones."""

_FUNCTIONS = 5
"""Functions that a summary names."""

_UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
_LINE = re.compile(
    rf"task=({_UUID}) function=({_UUID}|unknown) accepted=({_TIME}) start=({_TIME}|-) end=({_TIME}) "
    r"worker=([\w.:-]{1,100}) outcome=([\w.-]{1,64})"
)
"""A line; `twinlock_endpoint.tasks.task_log` writes it."""


@dataclass(frozen=True, slots=True)
class Task:
    """A task that ended. Times are in seconds since 1970."""

    id: str
    function: str
    accepted: float
    start: float
    """0 if no worker had it."""
    end: float
    worker: str
    """Host and process, or - if no worker had it."""
    outcome: str
    """``success``, or the code of the error."""

    @classmethod
    def read(cls, line: str) -> Self | None:
        """Return the task of a line; None if it is no such line."""
        found = _LINE.fullmatch(line)
        if found is None:
            return None
        accepted, start, end = (_seconds(text) for text in found.group(3, 4, 5))
        return cls(found[1], found[2], accepted, start, end, found[6], found[7])


def one_by_one(tasks: Iterable[Task], run: Run) -> Iterator[Event]:
    """Yield an event for each task, at its end."""
    for task in list(tasks)[-MOST:]:
        ran = f"ran {task.end - task.start:.1f} s on {task.worker}" if task.start else "was run by no worker"
        text = (
            f"task {task.id} of function {task.function}: waited {(task.start or task.end) - task.accepted:.1f} s, "
            f"{ran}, {task.outcome}"
        )
        yield _event(task.end, text, run, tasks=(task.id, task.function))


def summary(tasks: Iterable[Task], run: Run) -> Iterator[Event]:
    """Yield one event about all tasks, at the end of the last one; none if there is no task."""
    ends: list[float] = []
    functions: Counter[str] = Counter()
    failed = 0
    for task in tasks:
        ends.append(task.end)
        functions[task.function] += 1
        failed += task.outcome != "success"
    if not ends:
        return
    named = ", ".join(f"{name} ({count})" for name, count in functions.most_common(_FUNCTIONS))
    further = f" and {len(functions) - _FUNCTIONS} further functions" if len(functions) > _FUNCTIONS else ""
    text = (
        f"{len(ends)} tasks ended from {_clock(min(ends))} to {_clock(max(ends))}, {failed} of them failed; "
        f"functions: {named}{further}"
    )
    yield _event(max(ends), text, run, tasks=())


def _event(moment: float, text: str, run: Run, tasks: tuple[str, ...]) -> Event:
    return Event(moment, Source.USER, text, run.request, run.endpoint, run.user, tasks=tasks)


def _seconds(text: str) -> float:
    """Return the seconds since 1970 of a time of a line; 0 for none, or if there is no such time."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return 0.0


def _clock(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))
