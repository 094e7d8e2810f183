"""Parsl's provider for Slurm, with all of Slurm's states."""

import re
import shlex
from collections.abc import Sequence

import parsl.providers
from parsl.jobs.states import JobState

from twinlock_endpoint.engines.any_folder import AnyFolder
from twinlock_endpoint.engines.careful import CarefulStatus, Said
from twinlock_endpoint.engines.jobs import WAITING
from twinlock_endpoint.engines.named import NamedJobs

# Codes of squeue(1) that Parsl doesn't know, since without --states=all none of the ended jobs is shown.
_MORE_STATES = {
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
    "SI": JobState.RUNNING,
    "SO": JobState.RUNNING,
    "ST": JobState.HELD,
}


class SlurmProvider(CarefulStatus, NamedJobs, AnyFolder, parsl.providers.SlurmProvider):  # type: ignore[misc]
    """Takes the arguments of Parsl's class."""

    forgotten = "Invalid job id specified"

    def find(self, names: Sequence[str]) -> dict[str, str] | None:
        clusters = f" --clusters={self.clusters}" if self.clusters else ""
        wanted = shlex.quote(",".join(names))
        code, output, _ = self.execute_wait(f"squeue{clusters} --noheader --format='%i %j' --name={wanted}")
        rows = [line.split() for line in output.splitlines()]
        return None if code else {row[1]: row[0] for row in rows if len(row) == 2 and row[1] in names}

    def _in_quotes(self, path: str) -> str:
        "A backslash is how Slurm's names of output files say that a % means nothing."
        return super()._in_quotes(re.sub(r"[\\%]", r"\\\g<0>", path))

    def _end_of(self, job: str) -> str:
        "As scontrol(1) shows it, for some minutes after the end."
        code, output, _ = self.execute_wait(f"scontrol show job --oneliner {job}")
        return "" if code else _ended(dict(re.findall(r"(?:^| )(\w+)=(\S+)", output)))

    def _status_command(self, jobs: list[str]) -> str:
        command = str(self._cmd.format(",".join(jobs)))
        if command.startswith("sacct"):
            return command
        return command.replace("'%i %t'", "'%i %t %r'") + " --states=all"

    def _parse(self, output: str) -> Said:
        found: Said = {}
        for line in output.splitlines():
            job, word, *reason = [*line.split(maxsplit=2), "", ""]
            state = self._translate_table.get(word) or _MORE_STATES.get(word, JobState.UNKNOWN)
            if word:
                found[job] = state, _message(state, reason[0].strip())
        return found


def _ended(details: dict[str, str]) -> str:
    code, _, signal = details.get("ExitCode", "").partition(":")
    parts = [f"exit code {code}" if code.strip("0") else "", f"signal {signal}" if signal.strip("0") else ""]
    reason = details.get("Reason", "None")
    return ", ".join(part for part in [*parts, "" if reason == "None" else reason] if part)


def _message(state: JobState, reason: str) -> str:
    "Why a job waits; of one that has ended sacct(1) only repeats who cancelled it."
    if not reason or reason == "None":
        return ""
    if state == JobState.PENDING:
        return f"{WAITING} ({reason})"
    return reason if state == JobState.HELD else ""
