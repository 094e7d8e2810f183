"""Parsl's provider for LSF, in which a suspended job hasn't ended."""

import parsl.providers
from parsl.jobs.states import JobState
from parsl.providers.lsf.lsf import translate_table

from twinlock_endpoint.engines.any_folder import AnyFolder
from twinlock_endpoint.engines.careful import CarefulStatus, Said
from twinlock_endpoint.engines.named import FoundOneByOne

_STATES = {**translate_table, **dict.fromkeys(("PSUSP", "USUSP", "SSUSP"), JobState.HELD)}


class LSFProvider(CarefulStatus, FoundOneByOne, AnyFolder, parsl.providers.LSFProvider):  # type: ignore[misc]  # Parsl ships no types
    """Takes the arguments of Parsl's class."""

    forgotten = "is not found"

    def _status_command(self, jobs: list[str]) -> str:
        return f"bjobs -noheader -o 'jobid stat' {' '.join(jobs)}"

    def _find_command(self, name: str) -> str:
        return f"bjobs -noheader -o jobid -J {name}"

    def _jobs_of(self, code: int, output: str, errors: str) -> list[str] | None:
        return [] if self.forgotten in errors else None if code else output.split()

    def _parse(self, output: str) -> Said:
        rows = [line.split() for line in output.splitlines()]
        return {row[0]: (_STATES.get(row[1], JobState.UNKNOWN), "") for row in rows if len(row) == 2}
