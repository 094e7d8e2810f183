"""What the account's own files have about one run of an endpoint: its log, and its list of tasks that ended.

Nothing in them is evidence: whoever runs as the account can write them. So each line is cut, has only printable
characters of ASCII, counts only within the time of the run by the spawner's word, and says whose word it is.
"""

import re
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from twinlock_broker import account_files
from twinlock_broker.printable import printable
from twinlock_broker.trace.event import Event, Source
from twinlock_broker.trace.selection import Run
from twinlock_broker.trace.tasks import Task

MOST_BYTES = 4 << 20
"""Bytes that are read of the end of a file."""

MOST_LINES = 200
"""Lines of a run's log that are shown, the last ones."""

LONGEST = 300
"""Characters of a line."""

LIMIT = 10.0
"""Seconds in which the account's files have to be read."""

_LINE = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),(\d{3}) ([A-Z]{1,10}) \S{1,100}: (.*)")
_JOB = re.compile(r"Block \S{1,20} is the batch job ([\w.\[\]-]{1,64})")


def read(run: Run, folder: Path) -> list[str]:
    """Return the lines of the endpoint's log. Raise what `account_files.read_end` does."""
    return _lines(run, folder, "endpoint.log")


def read_tasks(run: Run, folder: Path) -> list[str]:
    """Return the lines of its list of tasks. Raise what `account_files.read_end` does."""
    return _lines(run, folder, "tasks.log")


def events(lines: list[str], run: Run) -> list[Event]:
    """Return the last events of the run in the endpoint's log; before them one that says how many were left out."""
    found: deque[Event] = deque(maxlen=MOST_LINES)
    count = 0
    for event in _events(lines, run):
        found.append(event)
        count += 1
    if count > MOST_LINES:
        text = f"{count - MOST_LINES + 1} earlier lines are left out"
        found[0] = Event(found[0].time, Source.USER, text, run.request, run.endpoint, run.user)
    return list(found)


def tasks(lines: list[str], run: Run) -> Iterator[Task]:
    """Yield the tasks that ended during the run."""
    for line in lines:
        task = Task.read(line)
        if task is not None and run.has(task.end):
            yield task


def _lines(run: Run, folder: Path, name: str) -> list[str]:
    paths = [folder / f"{name}.1", folder / name]
    data = account_files.read_end(run.user, paths, MOST_BYTES, LIMIT)
    return data.decode("utf-8", "replace").split("\n")


def _events(lines: list[str], run: Run) -> Iterator[Event]:
    for line in lines:
        found = _LINE.match(line[: LONGEST + 100])
        if found is None:
            continue
        moment = _seconds(found[1], found[2])
        if run.has(moment):
            text = printable(found[4] if found[3] == "INFO" else f"{found[3]}: {found[4]}", LONGEST)
            job = _JOB.search(text)
            jobs = (job[1],) if job else ()
            yield Event(moment, Source.USER, text, run.request, run.endpoint, run.user, jobs=jobs)


def _seconds(written: str, thousandths: str) -> float:
    """Return the seconds since 1970 of a time in this host's time zone; 0 if there is no such time."""
    try:
        return time.mktime(time.strptime(written, "%Y-%m-%d %H:%M:%S")) + int(thousandths) / 1000
    except (ValueError, OverflowError):
        return 0.0
