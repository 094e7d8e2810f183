"""Parsl's providers for PBS Pro and Torque; both schedulers forget ended jobs soon."""

import json
import re
from contextlib import suppress
from typing import Any

import parsl.providers
from parsl.jobs.states import JobState
from parsl.providers.torque.torque import translate_table

from twinlock_endpoint.htex.any_folder import AnyFolder
from twinlock_endpoint.htex.providers import endings
from twinlock_endpoint.htex.providers.careful import CarefulStatus, Said, together
from twinlock_endpoint.htex.providers.named import FoundOneByOne
from twinlock_endpoint.htex.providers.only_id import OnlyId
from twinlock_endpoint.htex.providers.reasons import PBS

_STATES = {**translate_table, "M": JobState.PENDING}
"""A moved job waits or runs at another server, which PBS Pro names in the comment."""

_FORGOTTEN = "Unknown Job Id"
_NO_HISTORY = "job history"
_JOB = re.compile(r'"(\d[^"]*)":\s*\{(.*?)"job_state":\s*"(\w)"', re.DOTALL)


class _Selected(OnlyId, FoundOneByOne):
    """Jobs by qselect(1B), which both have; it leaves out those that have ended."""

    id_form = re.compile(r"(\d+(?:\[\d*\])?(?:\.[\w.@-]+)?)")

    def _find_command(self, name: str) -> str:
        return f"qselect -N {name}"

    def _jobs_of(self, code: int, output: str, errors: str) -> list[str] | None:
        return None if code else output.split()


class PBSProProvider(CarefulStatus, _Selected, AnyFolder, parsl.providers.PBSProProvider):  # type: ignore[misc]  # Parsl ships no types
    """The provider, with the arguments of Parsl's class."""

    forgotten = _FORGOTTEN
    questions = PBS
    _history = " -x"

    def _status_command(self, jobs: list[str]) -> str:
        return f"qstat{self._history} -f -F json {' '.join(jobs)}"

    def execute_wait(self, cmd: str, timeout: float | None = None) -> tuple[int, str, str]:
        """Run a command, and qstat once more without -x if the server keeps no history of jobs.

        Such a server, PBS's default, refuses to be asked with -x.
        """
        code, output, errors = super().execute_wait(cmd, timeout)
        if code and self._history and cmd.startswith("qstat -x ") and _NO_HISTORY in errors:
            self._history = ""
            return super().execute_wait(cmd.replace(" -x", "", 1), timeout)
        return code, output, errors

    def _parse(self, output: str) -> Said:
        """Read the form of qstat(1B)'s -F json."""
        found: Said = {}
        for name, job in _jobs(output).items():
            word = str(job.get("job_state"))
            state = _STATES.get(word, JobState.UNKNOWN)
            found[_own_name(name, self.resources)] = state, word if state == JobState.UNKNOWN else _message(state, job)
        return found


def _jobs(output: str) -> dict[str, dict[str, Any]]:
    """Return the jobs with their attributes; with their states alone if it isn't JSON.

    It is cut off where a job is unknown, and some releases don't escape what the job's environment has in it.
    """
    with suppress(ValueError):
        return dict(json.loads(output, strict=False).get("Jobs", {}))
    return {name: {"job_state": letter} for name, _, letter in _JOB.findall(output)}


def _message(state: JobState, job: dict[str, Any]) -> str:
    if state in (JobState.PENDING, JobState.HELD):
        return str(job.get("comment") or "")
    status = job.get("Exit_status")
    return "" if status is None else f"exit status {status}"


class TorqueProvider(CarefulStatus, _Selected, AnyFolder, parsl.providers.TorqueProvider):  # type: ignore[misc]
    """The provider, with the arguments of Parsl's class."""

    forgotten = _FORGOTTEN
    questions = PBS
    ending = endings.TORQUE

    def _status_command(self, jobs: list[str]) -> str:
        return f"qstat {' '.join(jobs)}"

    def _parse(self, output: str) -> Said:
        """Read lines of id, name, user, time, state and queue below a head."""
        rows = [line.split() for line in output.splitlines()]
        jobs = [row for row in rows if len(row) >= 5 and row[0][0].isdigit()]
        return together((_own_name(row[0], self.resources), *_said(row[4])) for row in jobs)


def _said(letter: str) -> tuple[JobState, str]:
    state = translate_table.get(letter, JobState.UNKNOWN)
    return state, letter if state == JobState.UNKNOWN else ""


def _own_name(shown: str, jobs: dict[str, Any]) -> str:
    """Return the id that qsub(1B) gave; qstat(1B) may show less of it, but always the whole number."""
    number, _, _ = shown.partition(".")
    return next((job for job in jobs if job.startswith(shown) and job.partition(".")[0] == number), shown)
