"""Parsl's provider for Slurm, which takes a job for ended only when Slurm says so, and keeps what Slurm said."""

import parsl.providers
from parsl.jobs.states import JobState, JobStatus

from twinlock_endpoint.engines.jobs import WAITING

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
_FORGOTTEN = "Invalid job id specified"


class SlurmProvider(parsl.providers.SlurmProvider):  # type: ignore[misc]  # Parsl ships no types
    """Takes the arguments of Parsl's class."""

    def _status(self) -> None:
        "Ask for the jobs that haven't ended; what Slurm can't be asked now stays as it was."
        active = [job for job, known in self.resources.items() if not known["status"].terminal]
        for start in range(0, len(active), self.status_batch_size):
            batch = active[start : start + self.status_batch_size]
            answer = self._ask(batch)
            if answer is None:
                return
            for job in batch:
                self._note(job, answer.get(job) or self._ask_again(job))

    def _ask(self, jobs: list[str]) -> dict[str, str] | None:
        "State and reason by job, of the jobs that Slurm knows; None where it doesn't answer."
        code, output, errors = self.execute_wait(self._command(jobs))
        if code and _FORGOTTEN not in errors:
            return None
        lines = [line.split(maxsplit=1) for line in output.splitlines()]
        return {line[0]: line[1].strip() for line in lines if len(line) == 2}

    def _ask_again(self, job: str) -> str | None:
        """About one that wasn't mentioned: a database that is behind has not heard of it yet, and squeue(1) keeps
        quiet about forgotten ones unless they are all that it is asked for.
        """
        code, output, errors = self.execute_wait(self._command([job]))
        if code and _FORGOTTEN in errors:
            return "COMPLETED" if self._uses_database else "CD"
        return None if code else output.strip().partition(" ")[2].strip()

    def _command(self, jobs: list[str]) -> str:
        command = str(self._cmd.format(",".join(jobs)))
        if self._uses_database:
            return command
        return command.replace("'%i %t'", "'%i %t %r'") + " --states=all"

    @property
    def _uses_database(self) -> bool:
        return bool(self._cmd.startswith("sacct"))

    def _note(self, job: str, said: str | None) -> None:
        if not said:
            return
        word, _, reason = said.partition(" ")
        state = self._translate_table.get(word) or _MORE_STATES.get(word, JobState.UNKNOWN)
        known = self.resources[job]
        known["status"] = JobStatus(
            state,
            _message(state, reason.strip()),
            stdout_path=known["job_stdout_path"],
            stderr_path=known["job_stderr_path"],
        )


def _message(state: JobState, reason: str) -> str | None:
    "Why a job waits; of one that has ended sacct(1) only repeats who cancelled it."
    if not reason or reason == "None":
        return None
    if state == JobState.PENDING:
        return f"{WAITING} ({reason})"
    return reason if state == JobState.HELD else None
