"""The batch jobs that an endpoint submitted, in a file of its folder: should it be killed, the next one cancels them.

Blocks on this host are process groups; pids are used again, so a group counts only in the same boot and session.
"""

import json
import logging
import os
import platform
import signal
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from parsl.providers import LocalProvider
from parsl.providers.base import ExecutionProvider

log = logging.getLogger(__name__)

_BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class _Job:
    "`group` and `session` are of a block on this host, 0 for other jobs."

    provider: str
    id: str
    group: int = 0
    session: int = 0


class Submitted:
    """The file at `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._former: list[_Job] = []
        self._ours: dict[str, _Job] = {}

    def note(self, provider: ExecutionProvider, job_id: Any, gone: set[str]) -> None:
        """A job was submitted; those in `gone` have ended."""
        for former in gone:
            self._ours.pop(former, None)
        job = _job(provider, str(job_id))
        if job is not None:
            self._ours[job.id] = job
        self._write()

    def cancel_former(self, provider: ExecutionProvider) -> None:
        """Cancel what an endpoint before this one left; what can't be cancelled is tried again by the next one."""
        found = self._read()
        self._former = [job for job in found if not _cancel(job, provider)]
        if found:
            self._write()

    def clear(self) -> None:
        """All jobs of this endpoint have been cancelled."""
        self._ours.clear()
        self._write()

    def _read(self) -> list[_Job]:
        try:
            noted = json.loads(self._path.read_text())
            jobs = [_Job(**job) for job in noted["jobs"]]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, TypeError, KeyError) as error:
            log.error("What jobs the endpoint before this one had can't be read: %s", error)
            return []
        # Elsewhere, or after a restart of the host, its processes are not there.
        here = noted.get("here") == _here()
        return [job for job in jobs if here or not job.group]

    def _write(self) -> None:
        jobs = [*self._former, *self._ours.values()]
        draft = self._path.with_suffix(".new")
        try:
            with draft.open("w") as file:
                json.dump({"here": _here(), "jobs": [asdict(job) for job in jobs]}, file)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self._path)
        except OSError as error:
            log.error("Submitted jobs can't be noted (%s); should this endpoint be killed, they go on", error.strerror)


def _here() -> str:
    return f"{platform.node()} {_BOOT.read_text().strip()}"


def _job(provider: ExecutionProvider, job_id: str) -> _Job | None:
    name = type(provider).__name__
    if not isinstance(provider, LocalProvider):
        return _Job(name, job_id)
    pid = provider.resources[job_id]["remote_pid"]
    with suppress(ProcessLookupError):
        return _Job(name, job_id, os.getpgid(pid), os.getsid(pid))
    return None


def _cancel(job: _Job, provider: ExecutionProvider) -> bool:
    "Whether nothing has to be done about it any more."
    log.info("Cancelling %s %s, of the endpoint before this one", job.provider, job.id)
    if job.group:
        _kill(job)
        return True
    if job.provider != type(provider).__name__:
        log.error("%s %s can't be cancelled by a %s; cancel it by hand", job.provider, job.id, type(provider).__name__)
        return False
    provider.resources.setdefault(job.id, {"job_id": job.id})
    try:
        cancelled = all(provider.cancel([job.id]) or [False])
    except Exception:
        log.exception("%s %s can't be cancelled", job.provider, job.id)
        cancelled = False
    finally:
        provider.resources.pop(job.id, None)
    return cancelled


def _kill(job: _Job) -> None:
    for path in Path("/proc").glob("[0-9]*"):
        pid = int(path.name)
        with suppress(ProcessLookupError, PermissionError):
            if (os.getpgid(pid), os.getsid(pid)) == (job.group, job.session) and path.stat().st_uid == os.getuid():
                os.killpg(job.group, signal.SIGKILL)
                return
