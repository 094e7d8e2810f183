"""Events that somebody else can cause as often as they like: a line a minute for each who does, with a number."""

import asyncio
import logging
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

MINUTE = 60.0

MOST = 50
"""Culprits with lines of their own within a minute; further ones share one, since an account may have thousands of uids
(subuid(5)).
"""


@dataclass(frozen=True, slots=True)
class _Event:
    text: str
    values: tuple[object, ...]
    extra: Mapping[str, Any]


class LogRation:
    """Warns through `log` at once when somebody begins, then once a minute with the number of further times."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._more: dict[tuple[Hashable, str], int] = {}

    def warning(self, who: Hashable, text: str, *values: object, **extra: Any) -> None:
        """Log the event, or count it where `who` has caused such a one within the last minute. `extra` as for a logger.

        `text` is always the same for one kind of event, and `values` are what differs.
        """
        key: tuple[Hashable, str] = (who, text)
        if key not in self._more and len(self._more) >= MOST:
            key = ("others", text)
        if key in self._more:
            self._more[key] += 1
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
