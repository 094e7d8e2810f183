"""The audit log: one JSON line for each request, decision, start, signal, end and surprise, to a file and to stderr."""

import contextlib
import json
import os
import select
import stat
import time
from collections import Counter

_LONGEST = 500
"""Characters that are kept of a text."""

_PERIOD = 60.0
"""Seconds for which lines that a broker can cause without end are counted."""

_RATION = 5000
"""Such lines of one event that are written in a period, more than a broker needs; the others are counted."""

Fact = str | int | list[int] | None


class Audit:
    """An append-only log that only root can write. Making one raises `OSError` where the file can't be that."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._repeated = Counter[str]()
        self._period_ends = 0.0
        self.fd = self._open()

    def record(self, event: str, **facts: Fact) -> bool:
        """Append the time (UTC), the event and the facts about it; return whether that is on disk.

        Nothing may be started that isn't. JSON escapes whatever isn't printable ASCII.
        """
        now = time.strftime("%FT%TZ", time.gmtime())
        for name, fact in facts.items():
            if isinstance(fact, str):
                facts[name] = fact[:_LONGEST]
        line = json.dumps({"time": now, "event": event, **facts}).encode() + b"\n"
        try:
            self._follow_rotation()
            written = self._append(line)
        except OSError:
            written = False
        _show(line)
        return written

    def record_repeatable(self, event: str, **facts: Fact) -> None:
        """Append what changes nothing, so that a broker could have it written without end: a ration of each event."""
        if time.monotonic() > self._period_ends:
            self.end_period()
        self._repeated[event] += 1
        if self._repeated[event] <= _RATION:
            self.record(event, **facts)

    def end_period(self) -> None:
        """Append how many lines of each event were left out, if any were, and count anew."""
        left_out = self._repeated - Counter(dict.fromkeys(self._repeated, _RATION))
        if left_out:
            self.record("left-out", **left_out)
        self._repeated.clear()
        self._period_ends = time.monotonic() + _PERIOD

    def _append(self, line: bytes) -> bool:
        """Write the line at the end, on a line of its own: a disk that was full took a part of an earlier one."""
        size = os.lseek(self.fd, 0, os.SEEK_END)
        if size > 0 and os.pread(self.fd, 1, size - 1) != b"\n":
            line = b"\n" + line
        return os.write(self.fd, line) == len(line)

    def _follow_rotation(self) -> None:
        """Begin a new file if the log was moved aside. Raises `OSError` where there can be none.

        No signal is needed, so a rotation works whatever the policy file says at that time.
        """
        with contextlib.suppress(FileNotFoundError):
            there = os.lstat(self._path)
            if os.path.samestat(there, os.fstat(self.fd)):
                return
        old = self.fd
        self.fd = self._open()
        os.close(old)

    def _open(self) -> int:
        """Open or make the file. Raises `OSError` if it is a link, or others could write what root seems to say."""
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        file = os.open(self._path, flags, 0o600)
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
            os.close(file)
            raise OSError(
                f"{self._path} can be written by others, or isn't a regular file: find out why, then move it away"
            )
        return file


def _show(line: bytes) -> None:
    """Write it to stderr, where somebody reads that: the journal may have stopped, and nobody waits for it."""
    with contextlib.suppress(OSError):
        _, writable, _ = select.select([], [2], [], 0)
        if writable:
            os.write(2, line)
