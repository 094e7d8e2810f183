"""The audit log: one JSON line for each request, decision, start, signal, end and surprise, to a file and to stderr."""

import contextlib
import json
import os
import time


class Audit:
    """An append-only log that only root can read."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.fd = self._open()

    def _open(self) -> int:
        return os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)

    def line(self, event: str, **facts: str | int | None) -> bool:
        """Append the time (UTC), the event and the facts about it; False where that failed: then nothing is started."""
        # So much is kept of a text; JSON escapes what is not printable ASCII.
        capped = {name: fact[:500] if isinstance(fact, str) else fact for name, fact in facts.items()}
        line = json.dumps({"time": time.strftime("%FT%TZ", time.gmtime()), "event": event} | capped).encode() + b"\n"
        with contextlib.suppress(OSError):  # the journal may be gone; the file is what counts
            os.write(2, line)
        with contextlib.suppress(OSError):
            self._follow_rotation()
            size = os.lseek(self.fd, 0, os.SEEK_END)
            # A disk that was full took a part of a line, from us or from a child: this one begins anew.
            data = b"\n" * (size > 0 and os.pread(self.fd, 1, size - 1) != b"\n") + line
            return os.write(self.fd, data) == len(data)
        return False

    def _follow_rotation(self) -> None:
        """Begin a new file if the log was moved aside. Raises `OSError` where there can be none.

        No signal is needed, so a rotation works whatever the policy file says at that time.
        """
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(self.fd), os.lstat(self._path)):
                return
        new = self._open()
        os.dup2(new, self.fd, inheritable=False)
        os.close(new)
