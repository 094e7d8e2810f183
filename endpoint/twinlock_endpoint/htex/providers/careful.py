"""Providers that count a job as ended only when the scheduler says so, and keep what the scheduler said.

Parsl's own count every job that an answer leaves out as completed, some of them even if the command failed.
"""

import logging
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any

from parsl.jobs.states import TERMINAL_STATES, JobState, JobStatus

from twinlock_endpoint.htex.jobs import WAITING
from twinlock_endpoint.htex.providers.reasons import Inquiry, Question, answer, brief
from twinlock_endpoint.htex.providers.scheduler import failure
from twinlock_endpoint.htex.submissions import Outage

log = logging.getLogger(__name__)

Said = dict[str, tuple[JobState, str]]
"""By job: its state, and why it waits or how it ended if that is known."""

_BATCH = 50
_WAITING = (JobState.PENDING, JobState.HELD)
_MOST_ALIVE_FIRST = (JobState.RUNNING, JobState.PENDING, JobState.HELD, JobState.UNKNOWN)


def together(rows: Iterable[tuple[str, JobState, str]]) -> Said:
    """Return what is said of each job.

    An array has a row for each of its parts, and lives as long as one of them does.
    """
    said: Said = {}
    for job, state, message in rows:
        if job not in said or _order(state) <= _order(said[job][0]):
            said[job] = state, message
    return said


def _order(state: JobState) -> int:
    return _MOST_ALIVE_FIRST.index(state) if state in _MOST_ALIVE_FIRST else len(_MOST_ALIVE_FIRST)


class CarefulStatus:
    """A mixin that goes in front of one of Parsl's provider classes, and asks for the states of jobs in its place."""

    forgotten: str
    """What the scheduler's command prints on standard error about a job that it no longer knows."""
    resources: dict[str, dict[str, Any]]
    """Parsl's own: the jobs by id, each with its `status` and the paths of its output."""
    execute_wait: Callable[..., tuple[int, str, str]]
    """Parsl's own: runs a shell command; exit code, output, errors."""
    questions: Sequence[Question] = ()
    """The questions for why jobs wait, if the answer about their states doesn't say it."""
    ending: Question | None = None
    """The question about a job that has ended."""
    silence: Outage | None = None
    """Since when the command that asks for jobs fails; None while it doesn't."""

    def _status(self) -> None:
        """Ask for the jobs that haven't ended; a job that the scheduler says nothing about stays as it was."""
        active = [job for job, known in self.resources.items() if not known["status"].terminal]
        if not active:
            self.silence = None
        for start in range(0, len(active), _BATCH):
            batch = active[start : start + _BATCH]
            found = self._ask(batch)
            if found is None:
                return
            said = {job: found.get(job) or self._ask_alone(job) for job in batch}
            silent = [job for job, known in said.items() if known and known[0] in _WAITING and not known[1]]
            reasons = self._inquiry.reasons(silent)
            for job, known in said.items():
                self._note(job, known, reasons.get(job, ""))

    @cached_property
    def _inquiry(self) -> Inquiry:
        return Inquiry(self.questions, self.execute_wait)

    def _ask(self, jobs: list[str]) -> Said | None:
        """Return what is said about the jobs that the scheduler knows; None if it doesn't answer."""
        command = self._status_command(jobs)
        code, output, errors = self.execute_wait(command)
        forgotten = self.forgotten in errors
        if code and not forgotten:
            self._note_silence(failure(command, code, errors.strip() or output.strip()))
            return None
        self.silence = None
        found = self._parse(output)
        if forgotten and len(jobs) == 1:
            return {jobs[0]: (JobState.COMPLETED, ""), **found}
        return found

    def _note_silence(self, words: str) -> None:
        if self.silence is None:
            log.warning("The scheduler doesn't say what became of the batch jobs: %s", words)
        self.silence = Outage(self.silence.since if self.silence else time.monotonic(), words)

    def _ask_alone(self, job: str) -> tuple[JobState, str] | None:
        """Return what is said about a job that is asked for alone.

        One forgotten job among others may hide them all, and a database that is behind hasn't heard of a new one yet.
        """
        return (self._ask([job]) or {}).get(job)

    def _note(self, job: str, said: tuple[JobState, str] | None, reason: str) -> None:
        if said is None:
            return
        known, (state, message) = self.resources[job], said
        if state == JobState.UNKNOWN:
            log.warning("Job %s is said to be %s, which is unknown here; it counts as before", job, message or "odd")
            return
        if state in TERMINAL_STATES:
            message = self._end_of(job) or message
        elif state in _WAITING:
            message = _why(state, brief(message) or reason)
            if (state, message or None) != (known["status"].state, known["status"].message):
                held = "held or suspended: " if state == JobState.HELD else ""
                log.info("The batch job %s is %s%s", job, held, message)
        paths = {name: known.get(f"job_{name}") for name in ("stdout_path", "stderr_path")}
        known["status"] = JobStatus(state, message or None, **paths)

    def _end_of(self, job: str) -> str:
        """Return how a job ended beside its state, such as its exit code."""
        return answer(self.ending, self.execute_wait, job) if self.ending is not None else ""

    @abstractmethod
    def _status_command(self, jobs: list[str]) -> str:
        """Return the shell command that asks for these jobs."""

    @abstractmethod
    def _parse(self, output: str) -> Said:
        """Return what the command's output says of the jobs."""


def _why(state: JobState, reason: str) -> str:
    if state == JobState.HELD:
        return reason
    return f"{WAITING} ({reason})" if reason else WAITING
