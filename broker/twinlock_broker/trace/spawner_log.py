"""The spawner's audit log as events: one JSON object a line, see `twinlock_spawner.audit`."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from twinlock_broker.trace.event import Event, Source, Step
from twinlock_broker.trace.log_files import Lines

_ENDS = ("exited", "refused")

_TEXTS: dict[str, Callable[[dict[str, Any]], str]] = {
    "spawn": lambda line: f"asked to start the program {line['program']} as {line['user']}",
    "identity": lambda line: f"about to become uid {line['uid']}, with the groups {_numbers(line['groups'])}",
    "spawned": lambda line: f"started, process {line['pid']}",
    "signal": lambda line: f"asked to send {line['signal']}",
    "exited": lambda line: f"process {line['pid']} {how_ended(line['status'])}",
    "refused": lambda line: f"refused at the stage {line['stage']}: {line['reason']}",
    "pam-failed": lambda line: f"{line['call']} of PAM failed: {line['reason']}",
}
"""What is shown of a line, by its event. Lines of other events aren't about one endpoint, or change nothing."""


def events(lines: Lines, since: float) -> Iterator[Event]:
    """Yield the events from `since` on, in seconds since 1970; lines of another form are passed over.

    Raises:
        OSError: it can't be read.
    """
    for line in lines():
        event = read(line)
        if event is not None and event.time >= int(since):  # the log has whole seconds
            yield event


def read(line: bytes) -> Event | None:
    """Return the event of a line; None if it isn't about one endpoint."""
    try:
        found = json.loads(line)
        return _event(found) if found["event"] in _TEXTS else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def how_ended(status: int) -> str:
    """Return what a wait status (waitpid(2)) says."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return f"was killed by signal {number} ({signal.strsignal(number)})"
    return f"ended with exit code {os.waitstatus_to_exitcode(status)}"


def _event(found: dict[str, Any]) -> Event:
    return Event(
        datetime.fromisoformat(found["time"]).timestamp(),
        Source.SPAWNER,
        _TEXTS[found["event"]](found),
        request=str(found.get("command", "")),
        endpoint=str(found["id"]),
        user=str(found.get("user", "")),
        name=str(found.get("name", "")),
        pid=int(found.get("pid", 0)),
        step=_step(found),
    )


def _step(found: dict[str, Any]) -> Step:
    if "signal" in found:
        return Step.SIGNAL
    return Step.END if found["event"] in _ENDS else Step.START


def _numbers(numbers: list[int]) -> str:
    return ", ".join(str(number) for number in numbers)
