"""The audit log of task events at a high assurance endpoint, in the agent's format: one line for each event.

``TIME uid=UID pid=PID uep=UUID fid=UUID tid=UUID bid=BLOCK [jid=JOB ]STATE[ - TEXT]``. The broker itself knows time,
uid, pid and uep; the rest is the endpoint's word about its own tasks.
"""

import contextlib
import datetime
import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path

from twinlock_common.offload import Offload

from twinlock_broker import metrics
from twinlock_broker.errors import Fatal
from twinlock_broker.printable import printable

MAX_RECORD = 1000
"""Characters of one record of an endpoint."""

WRITE_LIMIT = 10.0
"""Seconds for a write to succeed, the wait for those before it included."""

log = logging.getLogger(__name__)


class AuditLog:
    """The file at `path`, only ever appended to, for the manager endpoint `manager_id`. Raises `Fatal` (73).

    It is written in a thread: a disk that hangs holds up those who wait for their records, and not the broker.
    """

    def __init__(self, path: Path, manager_id: str) -> None:
        self._path = path
        self._torn = False
        self._reason = ""
        self._writes = Offload("audit", 1)
        self._session = f"uid={os.getuid()} pid={os.getpid()} eid={manager_id}"
        try:
            self._fd = self._open()
        except OSError as error:
            raise Fatal(os.EX_CANTCREAT, f"{path}: the audit log can't be opened: {error.strerror}") from error
        self._judge(self._append(_stamped([f"{self._session} Begin CEP session ====="])))
        if not self.healthy:
            raise Fatal(os.EX_CANTCREAT, f"{path}: the audit log can't be written; nothing may run unaudited")

    @property
    def healthy(self) -> bool:
        """Whether the last write succeeded. While it is False, nothing new may be started."""
        return not self._reason

    def lines(self, uid: int, pid: int, endpoint_id: str, records: list[str]) -> bytes:
        """Return the records of an endpoint in the form that `write` takes."""
        head = f"uid={uid} pid={pid} uep={endpoint_id} "
        return _stamped([head + printable(record, MAX_RECORD) for record in records])

    async def note(self, text: str) -> bool:
        """Write what an administrator or a user has ordered. Return whether it is in the file."""
        return await self.write(_stamped([f"{self._session} {printable(text, MAX_RECORD)}"]))

    async def write(self, lines: bytes) -> bool:
        """Write the lines and return whether they are in the file. After a failure the next call tries again."""
        try:
            reason = await self._writes.run(WRITE_LIMIT, lambda: self._append(lines))
        except TimeoutError:
            reason = f"the disk took more than {WRITE_LIMIT:.0f} seconds"
        self._judge(reason)
        return not reason

    async def probe(self) -> bool:
        """Return whether the log can be written. After a failure, try that by writing a line."""
        return self.healthy or await self.write(_stamped([f"{self._session} Audit resumed"]))

    async def close(self) -> None:
        """Write the session's end and close the file."""
        if await self.write(_stamped([f"{self._session} End CEP session -----"])):
            os.close(self._fd)

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _follow_rotation(self) -> None:
        """Begin a new file if the log was moved aside. Raise `OSError`."""
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(self._fd), self._path.stat()):
                return
        new = self._open()
        os.close(self._fd)
        self._fd = new

    def _append(self, lines: bytes) -> str:
        """Write the lines. Return why that failed, or an empty text. One call at a time. Blocks."""
        data = (b"\n" if self._torn else b"") + lines
        try:
            self._follow_rotation()
            written = os.write(self._fd, data)
        except OSError as error:
            return str(error.strerror)
        self._torn = written < len(data)
        return "the disk took only a part of it" if self._torn else ""

    def _judge(self, reason: str) -> None:
        """Log when writing begins to fail and when it works again, but not each failure: endpoints try without end."""
        if reason and reason != self._reason:
            log.error("%s: THE AUDIT LOG CAN'T BE WRITTEN, no new work is taken: %s", self._path, reason)
        elif self._reason and not reason:
            log.warning("%s: the audit log is written again", self._path)
        self._reason = reason
        metrics.AUDIT_WRITABLE.set(self.healthy)


@contextlib.asynccontextmanager
async def auditing(path: Path | None, manager_id: str) -> AsyncIterator[AuditLog | None]:
    """Keep the audit log at `path` while the block runs, as `AuditLog` does. Yield None if there is to be none."""
    if path is None:
        yield None
        return
    audit = AuditLog(path, manager_id)
    try:
        with metrics.exported(metrics.AUDIT_WRITABLE):
            yield audit
    finally:
        await audit.close()


def _stamped(lines: list[str]) -> bytes:
    now = datetime.datetime.now().astimezone().isoformat()
    return "".join(f"{now} {line}\n" for line in lines).encode()
