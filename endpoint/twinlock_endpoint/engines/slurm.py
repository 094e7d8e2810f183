"""Slurm without an accounting database: Parsl asks squeue there, which keeps quiet about jobs that ended."""

from typing import Any

from parsl.jobs.states import JobState
from parsl.providers.base import ExecutionProvider

# Codes of squeue(1) that Parsl doesn't know, since without --states=all none of ended jobs is shown.
_MORE_STATES = {
    "BF": JobState.FAILED,
    "DL": JobState.TIMEOUT,
    "OOM": JobState.FAILED,
    "PR": JobState.TIMEOUT,
    "RQ": JobState.PENDING,
    "S": JobState.HELD,
    "ST": JobState.HELD,
}
_FORGOTTEN = "Invalid job id specified"


def show_ended_jobs(provider: ExecutionProvider) -> None:
    """Have the provider ask for all states, and take a job that Slurm has forgotten for an ended one."""
    if type(provider).__name__ != "SlurmProvider" or not provider._cmd.startswith("squeue"):
        return
    provider._cmd += " --states=all"
    provider._translate_table = {**provider._translate_table, **_MORE_STATES}
    ask = provider.execute_wait

    def answered(command: str, *arguments: Any) -> tuple[int, str, str]:
        code, output, errors = ask(command, *arguments)
        forgotten = command.startswith("squeue") and _FORGOTTEN in errors
        return (0 if forgotten else code), output, errors

    provider.execute_wait = answered
