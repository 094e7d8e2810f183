"""What the broker knows now: the endpoints that run, and the last failures, with their identities and options."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from twinlock_broker.commands.ask import ask
from twinlock_broker.printable import printable
from twinlock_broker.trace.event import Event, Source

LIMIT = 10.0
"""Seconds that the broker may take to answer."""

_LONGEST = 500


class Broker:
    """The running broker at an admin socket. Making one asks it, and raises `Fatal` if there is no answer."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._asked = time.time()
        self._status = ask(path, {"request": "status"}, limit=LIMIT)
        self._failures = ask(path, {"request": "failures"}, limit=LIMIT)["failures"]

    @property
    def manager(self) -> str:
        """The manager endpoint's uuid."""
        return str(self._status["endpoint"])

    def events(self) -> Iterator[Event]:
        """Yield an event for each failure that it remembers, and for each endpoint that it has now."""
        for failure in self._failures:
            yield _failure(failure)
        for row in self._status["endpoints"]:
            yield self._row(row)

    def user_dir(self, endpoint: str) -> str:
        """Return the GLOBUS_COMPUTE_USER_DIR of an endpoint; empty if it isn't known, or has none."""
        return str(ask(self._path, {"request": "config", "endpoint": endpoint}, limit=LIMIT)["user_dir"])

    def _row(self, row: dict[str, Any]) -> Event:
        jobs = tuple(row.get("jobs", ()))
        said = [f"{row['state']} now", f"process {row['pid']}" if row["pid"] else "no process"]
        said += [f"mode {row['mode']}"] if row["mode"] else []
        said += [f"options {row['options']}"] if row.get("options") else []
        said += [f"batch jobs, by its own word: {', '.join(jobs)}"] if jobs else []
        said += [f"in the way of its tasks, by its own word: {row['condition']}"] if row["condition"] else []
        text = printable("; ".join(said), _LONGEST)
        return Event(
            self._asked, Source.NOW, text, endpoint=row["id"], user=row["user"], pid=max(0, row["pid"]), jobs=jobs
        )


def _failure(failure: dict[str, Any]) -> Event:
    said = [f"failed at the stage {failure['stage']}: {failure['reason']}"]
    names = {"mapped": "identity", "options": "options", "detail": "details", "printed": "it printed"}
    said += [f"{words} {failure[name]}" for name, words in names.items() if failure[name]]
    return Event(
        float(failure["at"]),
        Source.NOW,
        printable("; ".join(said), _LONGEST),
        request=failure["command"],
        endpoint=failure["endpoint"],
        user=failure["user"],
        person=failure["identity"],
        identity=failure["mapped"],
    )
