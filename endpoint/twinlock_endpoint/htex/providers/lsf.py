"""Parsl's provider for LSF, changed: a suspended job hasn't ended."""

import parsl.providers
from parsl.jobs.states import JobState
from parsl.providers.lsf.lsf import translate_table

from twinlock_endpoint.htex.any_folder import AnyFolder
from twinlock_endpoint.htex.providers import endings
from twinlock_endpoint.htex.providers.careful import CarefulStatus, Said, together
from twinlock_endpoint.htex.providers.named import FoundOneByOne
from twinlock_endpoint.htex.providers.reasons import LSF

_STATES = {
    **translate_table,
    **dict.fromkeys(("PSUSP", "USUSP", "SSUSP", "UNKWN"), JobState.HELD),
    **dict.fromkeys(("PROV", "WAIT"), JobState.PENDING),
    "ZOMBI": JobState.FAILED,  # killed while its host was out of reach
}
_REASONS = {"UNKWN": "LSF can't reach its host", "ZOMBI": "killed while LSF couldn't reach its host"}


class LSFProvider(CarefulStatus, FoundOneByOne, AnyFolder, parsl.providers.LSFProvider):  # type: ignore[misc]  # Parsl ships no types
    """The provider, with the arguments of Parsl's class."""

    forgotten = "is not found"
    questions = LSF
    ending = endings.LSF
    comment_line = "#BSUB -Jd {}"
    comment_word = "-jd"

    def _status_command(self, jobs: list[str]) -> str:
        return f"bjobs -noheader -o 'jobid stat' {' '.join(jobs)}"

    def _find_command(self, name: str) -> str:
        return f"bjobs -noheader -o jobid -J {name}"

    def _jobs_of(self, code: int, output: str, errors: str) -> list[str] | None:
        return [] if self.forgotten in errors else None if code else output.split()

    def _parse(self, output: str) -> Said:
        rows = [line.split() for line in output.splitlines()]
        return together(_said(*row) for row in rows if len(row) == 2)


def _said(job: str, word: str) -> tuple[str, JobState, str]:
    state = _STATES.get(word, JobState.UNKNOWN)
    return job, state, word if state == JobState.UNKNOWN else _REASONS.get(word, "")
