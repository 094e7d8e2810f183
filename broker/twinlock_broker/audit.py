"""The audit of task events at a high assurance endpoint, in the peer's format: one line an event.

``TIME uid=UID pid=PID uep=UUID fid=UUID tid=UUID bid=BLOCK [jid=JOB ]STATE[ - TEXT]``. Time, uid, pid and uep are the
broker's own knowledge, the rest is the endpoint's word about its own tasks.
"""

import datetime
import logging
import os
import re
from pathlib import Path

from twinlock_broker import metrics
from twinlock_broker.errors import Fatal

MAX_RECORD = 1000
"""Characters of an endpoint's record."""

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

log = logging.getLogger(__name__)


class AuditLog:
    """The file at `path`, only ever appended to, for the manager endpoint `manager_id`. Raises `Fatal` (73)."""

    def __init__(self, path: Path, manager_id: str) -> None:
        self._path = path
        self._torn = False
        self.healthy = True
        """Whether the last write succeeded. While it is False, nothing new may be started."""
        self._session = f"uid={os.getuid()} pid={os.getpid()} eid={manager_id}"
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Fatal(os.EX_CANTCREAT, f"{path}: the audit log can't be opened: {error.strerror}") from error
        if not self._append([f"{self._session} Begin CEP session ====="]):
            raise Fatal(os.EX_CANTCREAT, f"{path}: the audit log can't be written; nothing may run unaudited")

    def write(self, uid: int, pid: int, endpoint_id: str, records: list[str]) -> bool:
        """Whether the records are in the file. After a failure the next call tries again."""
        head = f"uid={uid} pid={pid} uep={endpoint_id} "
        return self._append([head + _UNPRINTABLE.sub(" ", record[:MAX_RECORD]) for record in records])

    def probe(self) -> bool:
        """Whether it can be written, tried anew where it couldn't be."""
        return self.healthy or self._append([f"{self._session} Audit resumed"])

    def close(self) -> None:
        """Write the session's end."""
        self._append([f"{self._session} End CEP session -----"])
        os.close(self._fd)

    def _append(self, lines: list[str]) -> bool:
        now = datetime.datetime.now().astimezone().isoformat()
        data = ("\n" if self._torn else "") + "".join(f"{now} {line}\n" for line in lines)
        try:
            written = os.write(self._fd, data.encode())
            self._torn = written < len(data.encode())
            reason = "the disk took only a part of it" if self._torn else ""
        except OSError as error:
            reason = str(error.strerror)
        if reason:
            log.error("%s: THE AUDIT LOG CAN'T BE WRITTEN, no new work is taken: %s", self._path, reason)
        elif not self.healthy:
            log.warning("%s: the audit log is written again", self._path)
        self.healthy = not reason
        metrics.AUDIT_WRITABLE.set(self.healthy)
        return self.healthy
