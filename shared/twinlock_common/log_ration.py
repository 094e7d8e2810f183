"""Log lines about events that others can cause as often as they like: one a minute for each culprit, with a count."""

import asyncio
import logging
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

MINUTE = 60.0

MOST = 50
"""Culprits with lines of their own within a minute. Further ones share a line, since an account may have thousands of
uids (subuid(5)).
"""


@dataclass(frozen=True, slots=True)
class _Event:
    text: str
    values: tuple[object, ...]
    extra: Mapping[str, Any]


class LogRation:
    """Warnings through `log`: one as soon as a culprit begins, then one a minute with the number of further events.

    `left_out` is called for each event that gets no line of its own.
    """

    def __init__(self, log: logging.Logger, left_out: Callable[[], object] = lambda: None) -> None:
        self._log = log
        self._left_out = left_out
        self._more: dict[tuple[Hashable, str], int] = {}

    def warning(self, who: Hashable, text: str, *values: object, **extra: Any) -> None:
        """Log the event, or count it if `who` has caused one of this kind within the last minute.

        `text` is the same for all events of one kind; `values` are what differs. `extra` is as for a logger.
        """
        key: tuple[Hashable, str] = (who, text)
        if key not in self._more and len(self._more) >= MOST:
            key = ("others", text)
        if key in self._more:
            self._more[key] += 1
            self._left_out()
        else:
            self._write(key, _Event(text, values, extra), 0)

    def _write(self, key: tuple[Hashable, str], event: _Event, more: int) -> None:
        further = f" ({more} more times within a minute)" if more else ""
        self._log.warning(event.text + further, *event.values, extra=dict(event.extra))
        self._more[key] = 0
        asyncio.get_running_loop().call_later(MINUTE, self._next, key, event)

    def _next(self, key: tuple[Hashable, str], event: _Event) -> None:
        more = self._more.pop(key)
        if more:
            self._write(key, event, more)
