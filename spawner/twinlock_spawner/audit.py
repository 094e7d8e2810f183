"""The audit log: one JSON line for each request, decision, spawn, signal and exit, to a file and to stderr."""

import contextlib
import json
import os
import time

MAX_TEXT = 500
"""Characters that are kept of a text; JSON escapes what is not printable ASCII."""


class Audit:
    """An append-only log that only root can read."""

    def __init__(self, path: str) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._fd = os.open(path, flags, 0o600)

    def require(self, event: str, **facts: str | int | None) -> None:
        """Append one line: the time (UTC), the event and the facts about it.

        Raises `OSError` where it can't be written: what can't be accounted for isn't started.
        """
        capped = {name: fact[:MAX_TEXT] if isinstance(fact, str) else fact for name, fact in facts.items()}
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        data = json.dumps({"time": now, "event": event} | capped).encode() + b"\n"
        with contextlib.suppress(OSError):  # the journal may be gone; the file is what counts
            os.write(2, data)
        if os.write(self._fd, data) != len(data):
            raise OSError("the audit log took a part of a line only")

    def line(self, event: str, **facts: str | int | None) -> None:
        """As `require`, for what happens anyway: an end is handled even where the disk is full."""
        with contextlib.suppress(OSError):
            self.require(event, **facts)
