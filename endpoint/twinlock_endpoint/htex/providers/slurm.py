"""Parsl's provider for Slurm, with all of Slurm's states."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import replace

import parsl.providers
from parsl.jobs.states import JobState

from twinlock_endpoint.htex.any_folder import AnyFolder
from twinlock_endpoint.htex.providers.careful import CarefulStatus, Said, together
from twinlock_endpoint.htex.providers.named import NamedJobs
from twinlock_endpoint.htex.providers.reasons import SLURM, Question

# Codes of squeue(1) and words of sacct(1) that Parsl doesn't know, or takes for something else: a job in SPECIAL_EXIT
# was put back into the queue and is held there.
_STATES = {
    "BF": JobState.FAILED,
    "DL": JobState.TIMEOUT,
    "OOM": JobState.FAILED,
    "PR": JobState.TIMEOUT,
    "RD": JobState.PENDING,
    "RF": JobState.PENDING,
    "RH": JobState.PENDING,
    "RQ": JobState.PENDING,
    "RS": JobState.RUNNING,
    "S": JobState.HELD,
    "SE": JobState.HELD,
    "SI": JobState.RUNNING,
    "SO": JobState.RUNNING,
    "ST": JobState.HELD,
    "COMPLETING": JobState.RUNNING,
    "CONFIGURING": JobState.PENDING,
    "LAUNCH_FAILED": JobState.FAILED,
    "RECONFIG_FAIL": JobState.FAILED,
    "REQUEUE_FED": JobState.PENDING,
    "REQUEUE_HOLD": JobState.PENDING,
    "RESIZING": JobState.RUNNING,
    "RESV_DEL_HOLD": JobState.PENDING,
    "SIGNALING": JobState.RUNNING,
    "SPECIAL_EXIT": JobState.HELD,
    "STAGE_OUT": JobState.RUNNING,
    "STOPPED": JobState.HELD,
}
_WAITING = (JobState.PENDING, JobState.HELD)


class SlurmProvider(CarefulStatus, NamedJobs, AnyFolder, parsl.providers.SlurmProvider):  # type: ignore[misc]
    """The provider, with the arguments of Parsl's class."""

    forgotten = "Invalid job id specified"
    comment_line = "#SBATCH --comment={}"
    comment_word = "--comment"

    def find(self, names: Sequence[str]) -> dict[str, str] | None:
        """Ask squeue(1) for all of the names at once."""
        wanted = shlex.quote(",".join(names))
        code, output, _ = self.execute_wait(f"squeue{self._where()} --noheader --format='%F %j' --name={wanted}")
        rows = [line.split() for line in output.splitlines()]
        return None if code else {row[1]: row[0] for row in rows if len(row) == 2 and row[1] in names}

    def _in_quotes(self, path: str) -> str:
        """Escape each % as well, with a backslash as Slurm's names of output files have it."""
        return super()._in_quotes(re.sub(r"[\\%]", r"\\\g<0>", path))

    def _end_of(self, job: str) -> str:
        """Return how a job ended, as scontrol(1) shows it for some minutes after the end."""
        code, output, _ = self.execute_wait(f"scontrol{self._where()} show job --oneliner {job}")
        return "" if code else _ended(dict(re.findall(r"(?:^| )(\w+)=(\S+)", output)))

    def _where(self) -> str:
        return f" --clusters={self.clusters}" if self.clusters else ""

    @property
    def questions(self) -> Sequence[Question]:  # type: ignore[override]  # an attribute elsewhere
        """None where squeue(1) tells the states, which has the reasons in the same answer."""
        if not self._cmd.startswith("sacct"):
            return ()
        return [replace(question, command=question.command.replace("{where}", self._where())) for question in SLURM]

    def _status_command(self, jobs: list[str]) -> str:
        command = str(self._cmd.format(",".join(jobs)))
        if command.startswith("sacct"):
            return command
        return command.replace("'%i %t'", "'%i %t %r'") + " --states=all"

    def _parse(self, output: str) -> Said:
        rows = [line.split(maxsplit=2) for line in output.splitlines()]
        return together(self._said(*row) for row in rows if len(row) > 1)

    def _said(self, shown: str, word: str, reason: str = "") -> tuple[str, JobState, str]:
        """Return the state of a job, or of a part of one.

        A part is of an array (17_3, 17_[4-9]) or of a job on unlike nodes (17+0).
        """
        job = shown if shown in self.resources else re.split("[_+]", shown)[0]
        state = _STATES.get(word) or self._translate_table.get(word, JobState.UNKNOWN)
        return job, state, word if state == JobState.UNKNOWN else _message(state, reason.strip())


def _ended(details: dict[str, str]) -> str:
    code, _, signal = details.get("ExitCode", "").partition(":")
    parts = [f"exit code {code}" if code.strip("0") else "", f"signal {signal}" if signal.strip("0") else ""]
    reason = details.get("Reason", "None")
    return ", ".join(part for part in [*parts, "" if reason == "None" else reason] if part)


def _message(state: JobState, reason: str) -> str:
    """Return why a job waits; of one that has ended sacct(1) only repeats who cancelled it."""
    return reason if state in _WAITING and reason != "None" else ""
