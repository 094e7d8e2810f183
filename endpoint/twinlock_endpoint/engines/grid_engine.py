"""Parsl's provider for Grid Engine, in which a suspended job hasn't ended."""

import re

import parsl.providers
from parsl.jobs.states import JobState
from parsl.providers.grid_engine.grid_engine import translate_table

from twinlock_endpoint.engines.any_folder import AnyFolder
from twinlock_endpoint.engines.careful import CarefulStatus, Said
from twinlock_endpoint.engines.named import FoundOneByOne

_SUSPENDED = ("s", "ts", "S", "tS", "T", "tT")
_STATES = {**translate_table, **dict.fromkeys(_SUSPENDED, JobState.HELD), "t": JobState.RUNNING}
_FORGOTTEN = "do not exist"


class GridEngineProvider(CarefulStatus, FoundOneByOne, AnyFolder, parsl.providers.GridEngineProvider):  # type: ignore[misc]  # no types
    """Takes the arguments of Parsl's class."""

    forgotten = _FORGOTTEN

    def _status_command(self, jobs: list[str]) -> str:
        "All of the user's: qstat(1) has no list of some."
        return "qstat"

    def _find_command(self, name: str) -> str:
        "A job has the name of its script."
        return f"qstat -j {name}.submit"

    def _jobs_of(self, code: int, output: str, errors: str) -> list[str] | None:
        if _FORGOTTEN in errors + output:
            return []
        return None if code else re.findall(r"^job_number:\s+(\d+)", output, re.MULTILINE)

    def _parse(self, output: str) -> Said:
        rows = [line.split() for line in output.splitlines()]
        return {row[0]: (_state(row[4]), "") for row in rows if len(row) > 4 and row[0].isdigit()}

    def _ask_alone(self, job: str) -> tuple[JobState, str] | None:
        "The list has no ended jobs; whether one is among these is another question."
        code, output, errors = self.execute_wait(f"qstat -j {job}")
        return (JobState.COMPLETED, "") if code and _FORGOTTEN in errors + output else None


def _state(code: str) -> JobState:
    return _STATES.get(code) or _STATES.get(code.lower(), JobState.UNKNOWN)
