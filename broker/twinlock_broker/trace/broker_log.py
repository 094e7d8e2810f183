"""The broker's log as events; `logs.KeyValue` writes it."""

import json
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

from twinlock_broker.trace.event import Event, Source
from twinlock_broker.trace.log_files import Lines

_PAIR = re.compile(r'([a-z_]+)=("(?:[^"\\]|\\.)*"|[^\s"]+)')
_TIME = re.compile(r"time=(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) ")

_COMMAND = re.compile(r"start command of (.*)", re.DOTALL)
_MAPPED = re.compile(r"mapped to the account \S+ by the identity (\S+)(;.*)?", re.DOTALL)
_JOBS = re.compile(r"says that it has batch jobs: (.*)", re.DOTALL)


def events(lines: Lines, since: float) -> Iterator[Event]:
    """Yield the events from `since` on, in seconds since 1970; lines of another form are passed over.

    Raises:
        OSError: it can't be read.
    """
    begin = time.strftime("time=%Y-%m-%dT%H:%M:%S", time.gmtime(since)).encode()
    for line in lines():
        if line.startswith(b"time=") and line >= begin:
            event = read(line.decode("ascii", "replace"))
            if event is not None:
                yield event


def read(line: str) -> Event | None:
    """Return the event of a line; None if the broker hasn't written it."""
    moment = _TIME.match(line)
    pairs = _pairs(line)
    if moment is None or "event" not in pairs:
        return None
    event = Event(
        datetime.fromisoformat(moment[1]).timestamp(),
        Source.BROKER,
        pairs["event"],
        request=pairs.get("command") or pairs.get("error_id", ""),
        endpoint=pairs.get("endpoint", ""),
        user=pairs.get("user", ""),
    )
    return _with_words(event, pairs.get("logger", ""))


def _pairs(line: str) -> dict[str, str]:
    """Return the pairs of the line; none if it consists of anything else."""
    found = _PAIR.findall(line)
    if " ".join(f"{name}={value}" for name, value in found) != line.rstrip("\n"):
        return {}
    try:
        return {name: json.loads(value) if value.startswith('"') else value for name, value in found}
    except ValueError:
        return {}


def _with_words(event: Event, logger: str) -> Event:
    """Return the event with what only its words say. Who logged them shows that they aren't a user's."""
    if logger == "endpoints.handler" and (found := _COMMAND.fullmatch(event.text)):
        return replace(event, person=found[1])
    if logger == "endpoints.handler" and (found := _MAPPED.fullmatch(event.text)):
        return replace(event, identity=found[1])
    if logger == "control.sessions" and (found := _JOBS.fullmatch(event.text)):
        return replace(event, jobs=tuple(found[1].split(", ")))
    return event
