"""Parsl's provider for Grid Engine, changed: a suspended job hasn't ended."""

import re

import parsl.providers
from parsl.jobs.states import JobState

from twinlock_endpoint.htex.any_folder import AnyFolder
from twinlock_endpoint.htex.providers import endings
from twinlock_endpoint.htex.providers.careful import CarefulStatus, Said, together
from twinlock_endpoint.htex.providers.named import FoundOneByOne
from twinlock_endpoint.htex.providers.only_id import OnlyId
from twinlock_endpoint.htex.providers.reasons import GRID_ENGINE

_STATES = {
    "E": JobState.FAILED,
    "d": JobState.COMPLETED,
    "s": JobState.HELD,
    "S": JobState.HELD,
    "T": JobState.HELD,
    "w": JobState.PENDING,
    "q": JobState.PENDING,
    "r": JobState.RUNNING,
    "t": JobState.RUNNING,
}
"""By a letter of the state, the weightiest first: the state is made of one letter for each thing that is so."""

_FORGOTTEN = "do not exist"
_REASON = re.compile(r"^error reason[^:]*:\s*(.+)", re.MULTILINE)


class GridEngineProvider(CarefulStatus, OnlyId, FoundOneByOne, AnyFolder, parsl.providers.GridEngineProvider):  # type: ignore[misc]  # no types
    """The provider, with the arguments of Parsl's class."""

    forgotten = _FORGOTTEN
    questions = GRID_ENGINE
    ending = endings.GRID_ENGINE
    id_form = re.compile(r"(\d+)(?:\.\d+-\d+:\d+)?")

    def _status_command(self, jobs: list[str]) -> str:
        """Ask for all jobs of the user: qstat(1) has no list of some."""
        return "qstat"

    def _find_command(self, name: str) -> str:
        """Ask by the name of the script, which is the job's."""
        return f"qstat -j {name}.submit"

    def _jobs_of(self, code: int, output: str, errors: str) -> list[str] | None:
        if _FORGOTTEN in errors + output:
            return []
        return None if code else re.findall(r"^job_number:\s+(\d+)", output, re.MULTILINE)

    def _parse(self, output: str) -> Said:
        rows = [line.split() for line in output.splitlines()]
        return together((row[0], *_said(row[4])) for row in rows if len(row) > 4 and row[0].isdigit())

    def _end_of(self, job: str) -> str:
        """Return how a job ended. One in an error state is deleted.

        It stays in the queue, and would run after all as soon as somebody clears the error.
        """
        code, output, _ = self.execute_wait(f"qstat -j {job}")
        reason = _REASON.search(output)
        if code or reason is None:
            return super()._end_of(job)
        self.execute_wait(f"qdel {job}")
        return reason[1].strip()

    def _ask_alone(self, job: str) -> tuple[JobState, str] | None:
        """Ask whether a job has ended that isn't in the list; the list has no ended jobs."""
        code, output, errors = self.execute_wait(f"qstat -j {job}")
        return (JobState.COMPLETED, "") if code and _FORGOTTEN in errors + output else None


def _said(code: str) -> tuple[JobState, str]:
    for letter, state in _STATES.items():
        if letter in code:
            return JobState.HELD if state == JobState.PENDING and "h" in code else state, ""
    return JobState.UNKNOWN, code
