"""Warnings that somebody else can cause as often as they like."""

from __future__ import annotations

import logging
import time

log = logging.getLogger(__name__)

EVERY = 60.0
"""Seconds between two lines about the same one."""

MOST = 10_000
"""How many are kept apart; then it starts anew."""


class RationedLog:
    """One line a minute about each one, with the number of those that were left out."""

    def __init__(self) -> None:
        self._next: dict[str, float] = {}
        self._left_out: dict[str, int] = {}

    def warn(self, about: str, text: str) -> None:
        """Log a warning about somebody, unless the last one is less than a minute ago."""
        now = time.monotonic()
        if now < self._next.get(about, 0.0):
            self._left_out[about] = self._left_out.get(about, 0) + 1
            return
        if len(self._next) >= MOST:
            self._next.clear()
            self._left_out.clear()
        left_out = self._left_out.pop(about, 0)
        log.warning("%s%s", text, f" ({left_out:,} more of its kind were left out before)" if left_out else "")
        self._next[about] = now + EVERY
