"""Parsl's provider for HTCondor, changed: a held job hasn't ended, and one that has left the queue has."""

import re
import shlex
from collections.abc import Sequence

import parsl.providers
from parsl.jobs.states import JobState

from twinlock_endpoint.htex.providers import endings
from twinlock_endpoint.htex.providers.careful import CarefulStatus, Said
from twinlock_endpoint.htex.providers.named import NamedJobs
from twinlock_endpoint.htex.providers.reasons import CONDOR

_STATES = {
    "1": JobState.PENDING,
    "2": JobState.RUNNING,
    "3": JobState.CANCELLED,
    "4": JobState.COMPLETED,
    "5": JobState.HELD,
    "6": JobState.RUNNING,  # its output is on its way back
    "7": JobState.HELD,
}
"""By the attribute JobStatus, as the manual's appendix on job attributes numbers them."""

_ENDED = ("3", "4")
_ANSWERED = "-- Schedd:"
_UNSET = "undefined"
_VALUE = re.compile(r'"(?:[^"\\]|\\.)*"|\S+')


class CondorProvider(CarefulStatus, NamedJobs, parsl.providers.CondorProvider):  # type: ignore[misc]  # Parsl ships no types
    """The provider, with the arguments of Parsl's class."""

    forgotten = "no such job"  # condor_q(1) just leaves it out
    questions = CONDOR
    ending = endings.CONDOR
    comment_line = "description = {}"
    comment_word = "description"

    def find(self, names: Sequence[str]) -> dict[str, str] | None:
        """Find jobs by their arguments, which are the name of their script."""
        found: dict[str, str] = {}
        for name in names:
            wanted = shlex.quote(f'Args == "{name}.script"')
            code, output, _ = self.execute_wait(f"condor_q -constraint {wanted} -af:j JobStatus")
            if code:
                return None
            for row in (line.split() for line in output.splitlines()):
                if len(row) == 2 and row[1] not in _ENDED:
                    found[name] = row[0]
        return found

    def _status_command(self, jobs: list[str]) -> str:
        return f"condor_q {' '.join(jobs)} -af:jr JobStatus HoldReason LastRejMatchReason"

    def _parse(self, output: str) -> Said:
        rows = [_VALUE.findall(line) for line in output.splitlines()]
        return {row[0]: _said(*row[1:4]) for row in rows if len(row) > 1}

    def _ask_alone(self, job: str) -> tuple[JobState, str] | None:
        """Return that the job has ended if the answer has only its head: the job has left the queue.

        Nothing at all is no answer.
        """
        code, output, _ = self.execute_wait(f"condor_q -nobatch {job}")
        gone = not code and _ANSWERED in output and not any(line.split()[:1] == [job] for line in output.splitlines())
        return (JobState.COMPLETED, "") if gone else None


def _said(number: str, held: str = _UNSET, unmatched: str = _UNSET) -> tuple[JobState, str]:
    state = _STATES.get(number, JobState.UNKNOWN)
    if state == JobState.UNKNOWN:
        return state, number
    reason = {JobState.HELD: held, JobState.PENDING: unmatched}.get(state, _UNSET)
    return state, "" if reason == _UNSET else reason.strip('"').replace('\\"', '"')
