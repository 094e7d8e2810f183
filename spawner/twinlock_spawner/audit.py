"""The audit log: one JSON line for each request, decision, start, signal, end and surprise, to a file and to stderr."""

import contextlib
import json
import os
import time

_LONGEST = 500
"""Characters that are kept of a text."""


class Audit:
    """An append-only log that only root can read. Making one raises `OSError` where the file can't be opened."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.fd = self._open()

    def record(self, event: str, **facts: str | int | None) -> bool:
        """Append the time (UTC), the event and the facts about it; return whether that is on disk.

        Nothing may be started that isn't. JSON escapes whatever isn't printable ASCII.
        """
        now = time.strftime("%FT%TZ", time.gmtime())
        for name, fact in facts.items():
            if isinstance(fact, str):
                facts[name] = fact[:_LONGEST]
        line = json.dumps({"time": now, "event": event, **facts}).encode() + b"\n"
        with contextlib.suppress(OSError):  # the journal may be gone; the file is what counts
            os.write(2, line)
        try:
            self._follow_rotation()
            return self._append(line)
        except OSError:
            return False

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
        new = self._open()
        os.dup2(new, self.fd, inheritable=False)
        os.close(new)

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(self._path, flags, 0o600)
