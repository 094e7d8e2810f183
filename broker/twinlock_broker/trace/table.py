"""A trace for people, as a table, and for programs, as a JSON object for each event.

Texts of others are in it. So each is one line of printable ASCII, and what doesn't fit beside the columns goes on below
its own column: nothing that anybody wrote can look like a line of the table.
"""

import json
import textwrap
import time
from collections.abc import Iterator
from typing import Any

from twinlock_broker.trace.event import Event, Source
from twinlock_broker.trace.gather import Trace
from twinlock_broker.trace.selection import Run

_SOURCE = max(len(source) for source in Source)
_LONGEST = 2000
_LEAST = 30
_HEADING = f"{'TIME':19}  {'SOURCE':{_SOURCE}}  {'REQUEST':8}  WHAT"
_MARGIN = len(_HEADING) - len("WHAT")

COLUMNS = f"""\
  TIME     in this host's time zone
  SOURCE   broker, spawner and audit log: their logs. scheduler: Slurm. now: the broker or the kernel, asked by this
           command. {Source.USER}: a file that the account itself can write, and no evidence
  REQUEST  the request id, which is also the error id
  WHAT     what happened
"""


def lines(trace: Trace, word: str, width: int) -> Iterator[str]:
    """Yield the lines of the table, with what was found above it."""
    yield f"{plain(word)}: {'; '.join(map(plain, trace.meanings))}"
    running = {event.pid for event in trace.events if event.source is Source.NOW}
    for run in trace.runs:
        yield from _wrapped(_about(run, is_running=run.pid in running), "  ", width)
    if trace.left_out:
        yield f"{trace.left_out} older events are left out; a shorter --since or another word shows them"
    yield _HEADING
    for event in trace.events:
        clock = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event.time))
        head = f"{clock}  {event.source:{_SOURCE}}  {plain(event.request):8}  "
        text = _wrapped(plain(event.text), "", max(_LEAST, width - _MARGIN))
        yield head + next(text, "")
        yield from (" " * _MARGIN + rest for rest in text)


def objects(trace: Trace) -> Iterator[str]:
    """Yield a line of JSON for each event."""
    for event in trace.events:
        yield json.dumps(_object(event))


def plain(text: str) -> str:
    """Return the text in printable ASCII, where each character is one column wide."""
    escaped = text[:_LONGEST].encode("ascii", "backslashreplace").decode()
    return "".join(character if character.isprintable() else " " for character in escaped)


def _object(event: Event) -> dict[str, Any]:
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(event.time))
    values: dict[str, Any] = {"time": f"{moment}.{int(event.time * 1000) % 1000:03}Z", "source": event.source.value}
    values["user_written"] = event.source is Source.USER
    for name in ("request", "endpoint", "user", "person", "identity", "pid", "jobs", "tasks"):
        if getattr(event, name):
            values[name] = getattr(event, name)
    return values | {"text": event.text}


def _about(run: Run, *, is_running: bool) -> str:
    """Return who a run was for, where it ran, and how it ended."""
    about = [f"request {run.request or '(none)'}", f"person {run.person}" if run.person else ""]
    about += [f"account {run.user}" if run.user else "", f"endpoint {run.endpoint}"]
    about += [f"process {run.pid}" if run.pid and not run.outcome else "", _end(run, is_running=is_running)]
    return plain(", ".join(filter(None, about)))


def _end(run: Run, *, is_running: bool) -> str:
    if run.outcome:
        return run.outcome
    if not run.pid:
        return "no process was started for it"
    return "is running" if is_running else "no end is known"


def _wrapped(text: str, indent: str, width: int) -> Iterator[str]:
    return iter(textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=indent + "  "))
