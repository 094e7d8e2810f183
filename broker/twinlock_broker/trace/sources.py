"""The logs that are read, and what is said about those that can't be."""

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from twinlock_broker.trace import broker_log, spawner_log, task_audit
from twinlock_broker.trace.event import Event
from twinlock_broker.trace.log_files import Lines

PROGRESS_AFTER = 1.0
"""Seconds after which it is said how far the reading has come."""

_STEP = 1000
"""Events between two looks at the clock."""


@dataclass(slots=True)
class Log:
    """A log of the host."""

    name: str
    """For people."""
    lines: Lines
    read: Callable[[Lines, float], Iterator[Event]]
    advice: str
    """What to do if it can't be read."""
    failed: bool = False
    """It can't be read, or not to its end."""


@dataclass(slots=True)
class Logs:
    """The logs that are read, each from the beginning as often as that is needed."""

    logs: list[Log]
    since: float
    """In seconds since 1970; what is older is passed over."""
    problems: list[str] = field(default_factory=list)
    """What can't be read, with the reason and the next step."""
    _began: float = field(default_factory=time.monotonic)

    def events(self) -> Iterator[Event]:
        """Yield the events of all logs, one log after the other. One that can't be read holds up no other."""
        for log in self.logs:
            try:
                yield from self._shown(log)
            except (OSError, EOFError) as error:
                reason = getattr(error, "strerror", None) or error
                if not log.failed:
                    self.problems.append(f"{log.name}: can't be read: {reason}; {log.advice}")
                log.failed = True

    def _shown(self, log: Log) -> Iterator[Event]:
        """Yield the events of a log; on a terminal say how far it is, if it takes long."""
        wants_progress = sys.stderr.isatty()
        shown = False
        for number, event in enumerate(log.read(log.lines, self.since), 1):
            if wants_progress and number % _STEP == 0 and time.monotonic() - self._began > PROGRESS_AFTER:
                print(f"\rreading {log.name}: {number:,} events", end="", file=sys.stderr, flush=True)
                shown = True
            yield event
        if shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def of_broker(name: str, lines: Lines) -> Log:
    """Return the broker's log."""
    advice = "run this as root, or name the broker's log with --broker-log FILE"
    return Log(name, lines, broker_log.events, advice)


def of_spawner(name: str, lines: Lines) -> Log:
    """Return the spawner's audit log."""
    advice = "run this as root, or name the spawner's audit_log with --audit-log FILE"
    return Log(name, lines, spawner_log.events, advice)


def of_tasks(name: str, lines: Lines) -> Log:
    """Return the audit log of task events at high assurance endpoints."""
    advice = "run this as root, or name the audit_log_path of config.yaml with --task-audit-log FILE"
    return Log(name, lines, task_audit.events, advice)
