"""The batch jobs that an endpoint submitted, in a file of its folder: jobs that it can't cancel the next one cancels.

Blocks on this host are process groups; pids are used again, so a group counts only in the same boot and session.
A scheduler's command may fail or hang though the job was taken. So the name of a job is noted before it is submitted,
if its provider can find jobs by name.
"""

import json
import logging
import os
import platform
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from parsl.jobs.states import JobState, JobStatus
from parsl.providers import LocalProvider
from parsl.providers.base import ExecutionProvider
from twinlock_common.files import replacing

log = logging.getLogger(__name__)

_DOUBTFUL_S = 900.0
_EXPECTED_S = 60.0
_BETWEEN_S = 10.0
_END_S = 8.0
_AGAIN_S = 1.0
_BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class _Job:
    """A batch job, or a block on this host.

    `group` and `session` are of a block on this host, 0 for other jobs. One that was perhaps submitted has no id, but a
    `name`, and the time `since` when, in seconds of the epoch.
    """

    provider: str
    id: str
    group: int = 0
    session: int = 0
    name: str = ""
    since: float = 0.0


class Submitted:
    """The file at `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._unwanted: list[_Job] = []
        self._ours: dict[str, _Job] = {}
        self._doubtful: dict[str, _Job] = {}  # by name
        self._intended: _Job | None = None
        self._due = float("-inf")

    @property
    def intended(self) -> str:
        """The name of the job that is being submitted; empty where its provider gives none beforehand."""
        return self._intended.name if self._intended else ""

    def intend(self, provider: ExecutionProvider, name: str) -> None:
        """Note that a job of this name is about to be submitted."""
        self._intended = _Job(type(provider).__name__, "", name=name, since=time.time())
        self._write()

    def note(self, provider: ExecutionProvider, job_id: Any, gone: set[str]) -> None:
        """Note that the job was submitted, and that those in `gone` have ended."""
        self._intended = None
        for former in gone:
            self._ours.pop(former, None)
        job = _job(provider, str(job_id))
        if job is not None:
            self._ours[job.id] = job
        self._write()

    def miss(self, *, doubtful: bool) -> None:
        """Note that the job wasn't submitted; with `doubtful` it may have been all the same."""
        if self._intended is not None:
            self._doubtful |= {self._intended.name: self._intended} if doubtful else {}
            self._intended = None
            self._write()

    def doubtful(self) -> list[str]:
        """Return the names of the jobs whose submission failed in the last minutes, but may have been taken."""
        now = time.time()
        self._doubtful = {name: job for name, job in self._doubtful.items() if now < job.since + _DOUBTFUL_S}
        return list(self._doubtful)

    def found(self, name: str) -> None:
        """Note that a doubtful job is there; `note` is called for it next."""
        del self._doubtful[name]

    def not_found(self) -> None:
        """Note that the scheduler doesn't know the doubtful jobs.

        Those that come after a minute aren't wanted any more.
        """
        now = time.time()
        late = [name for name, job in self._doubtful.items() if now > job.since + _EXPECTED_S]
        if late:
            self._unwanted += [self._doubtful.pop(name) for name in late]
            self._write()

    def unwant(self, job_ids: Iterable[Any]) -> None:
        """Note that these jobs of ours couldn't be cancelled."""
        unwanted = [self._ours.pop(str(job_id)) for job_id in job_ids if str(job_id) in self._ours]
        if unwanted:
            self._unwanted += unwanted
            self._write()

    def cancel_former(self, provider: ExecutionProvider) -> None:
        """Cancel what an endpoint before this one left.

        Jobs of another provider, which the configuration had then, are told once and forgotten: nobody here can cancel
        them.
        """
        kind = type(provider).__name__
        left = self._read()
        foreign = [job for job in left if job.provider != kind and not job.group]
        self._unwanted = [job for job in left if job not in foreign]
        for job in foreign:
            log.error("%s %s can't be cancelled by a %s; cancel it by hand", job.provider, job.id or job.name, kind)
        if foreign:
            self._write()
        self.cancel_unwanted(provider)

    def cancel_unwanted(self, provider: ExecutionProvider) -> None:
        """Cancel the unwanted jobs; to be called again and again, since a scheduler may be out of reach."""
        if self._unwanted and time.monotonic() >= self._due:
            self._due = time.monotonic() + _BETWEEN_S
            self._unwanted = [job for job in self._unwanted if not _cancel(job, provider)]
            self._write()

    def end(self, provider: ExecutionProvider) -> None:
        """Try for some seconds more to cancel the unwanted jobs; all others of this endpoint have been cancelled."""
        self._ours.clear()
        self._unwanted += self._doubtful.values()
        self._doubtful.clear()
        deadline = time.monotonic() + _END_S
        while self._unwanted and time.monotonic() < deadline:
            self._unwanted = [job for job in self._unwanted if not _cancel(job, provider)]
            if self._unwanted:
                time.sleep(_AGAIN_S)
        for job in self._unwanted:
            log.error("%s %s is left to the next endpoint of this name", job.provider, job.id or job.name)
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
        intended = [self._intended] if self._intended else []
        jobs = [*self._unwanted, *self._ours.values(), *self._doubtful.values(), *intended]
        try:
            with replacing(self._path, durable=True) as draft:
                draft.write_text(json.dumps({"here": _here(), "jobs": [asdict(job) for job in jobs]}))
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
    """Cancel a job; return whether nothing has to be done about it any more."""
    log.info("Cancelling %s %s, which is not wanted any more", job.provider, job.id or job.name)
    if job.group:
        _kill(job)
        return True
    if job.id:
        return _cancel_by_id(job.id, provider)
    found = provider.find([job.name])
    if not found:  # a scheduler that was out of reach may take its time
        return found is not None and time.time() > job.since + _DOUBTFUL_S
    return _cancel_by_id(found[job.name], provider)


def _cancel_by_id(job_id: str, provider: ExecutionProvider) -> bool:
    """Cancel one of our own jobs, or one that the provider doesn't know yet and needn't afterwards.

    Return whether nothing has to be done about it any more.
    """
    foreign = job_id not in provider.resources
    if foreign:
        provider.resources[job_id] = {"job_id": job_id, "status": JobStatus(JobState.UNKNOWN)}
    try:
        return all(provider.cancel([job_id]) or [False]) or provider.status([job_id])[0].terminal
    except Exception:
        log.exception("Job %s can't be cancelled", job_id)
        return False
    finally:
        if foreign:
            del provider.resources[job_id]


def _kill(job: _Job) -> None:
    for path in Path("/proc").glob("[0-9]*"):
        pid = int(path.name)
        with suppress(ProcessLookupError, PermissionError):
            if (os.getpgid(pid), os.getsid(pid)) == (job.group, job.session) and path.stat().st_uid == os.getuid():
                os.killpg(job.group, signal.SIGKILL)
                return
