"""Parsl's providers for PBS Pro and Torque; both schedulers forget ended jobs soon."""

import json
from contextlib import suppress
from typing import Any

import parsl.providers
from parsl.jobs.states import JobState
from parsl.providers.torque.torque import translate_table

from twinlock_endpoint.engines.any_folder import AnyFolder
from twinlock_endpoint.engines.careful import CarefulStatus, Said
from twinlock_endpoint.engines.jobs import WAITING
from twinlock_endpoint.engines.named import FoundOneByOne

_FORGOTTEN = "Unknown Job Id"


class _Selected(FoundOneByOne):
    """Jobs by qselect(1B), which both have; it leaves out those that have ended."""

    def _find_command(self, name: str) -> str:
        return f"qselect -N {name}"

    def _jobs_of(self, code: int, output: str, errors: str) -> list[str] | None:
        return None if code else output.split()


class PBSProProvider(CarefulStatus, _Selected, AnyFolder, parsl.providers.PBSProProvider):  # type: ignore[misc]  # Parsl ships no types
    """Takes the arguments of Parsl's class."""

    forgotten = _FORGOTTEN

    def _status_command(self, jobs: list[str]) -> str:
        return f"qstat -x -f -F json {' '.join(jobs)}"

    def _parse(self, output: str) -> Said:
        "With the form of qstat(1B)'s -F json. Its output may be cut off where one of the jobs is unknown."
        jobs: dict[str, dict[str, Any]] = {}
        with suppress(ValueError):
            jobs = json.loads(output).get("Jobs", {})
        found: Said = {}
        for name, job in jobs.items():
            state = translate_table.get(job.get("job_state"), JobState.UNKNOWN)
            found[_own_name(name, self.resources)] = state, _message(state, job)
        return found


def _message(state: JobState, job: dict[str, Any]) -> str:
    comment = str(job.get("comment") or "")
    if state == JobState.PENDING and comment:
        return f"{WAITING} ({comment})"
    if state == JobState.HELD:
        return comment
    status = job.get("Exit_status")
    return "" if status is None else f"exit status {status}"


class TorqueProvider(CarefulStatus, _Selected, AnyFolder, parsl.providers.TorqueProvider):  # type: ignore[misc]
    """Takes the arguments of Parsl's class."""

    forgotten = _FORGOTTEN

    def _status_command(self, jobs: list[str]) -> str:
        return f"qstat {' '.join(jobs)}"

    def _parse(self, output: str) -> Said:
        "Lines of id, name, user, time, state and queue below a head."
        rows = [line.split() for line in output.splitlines()]
        jobs = [row for row in rows if len(row) >= 5 and row[0][0].isdigit()]
        states = {_own_name(row[0], self.resources): translate_table.get(row[4]) for row in jobs}
        return {job: (state or JobState.UNKNOWN, "") for job, state in states.items()}


def _own_name(shown: str, jobs: dict[str, Any]) -> str:
    "The id that qsub(1B) gave; qstat(1B) may show less of it."
    return next((job for job in jobs if job.startswith(shown)), shown)
