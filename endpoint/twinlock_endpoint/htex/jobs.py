"""Descriptions of batch jobs: their states, in words that users and the scheduler share."""

from parsl.executors.high_throughput.executor import HighThroughputExecutor
from parsl.jobs.states import JobState, JobStatus

WAITING = "waiting in the scheduler's queue"
"""What is said about a job that waits, unless the scheduler gives a reason."""

_ADVICE = {
    "AF_UNIX path too long": "The path in TMPDIR is too long for a socket where the workers run: set a shorter one, "
    "for example with 'export TMPDIR=/tmp' in the provider's worker_init.",
}
"""What to do about words that a job's worker pool printed."""

_SHOWN_JOBS = 3
_SHOWN_LINES = 5


def describe_ended(parsl: HighThroughputExecutor, statuses: dict[str, JobStatus]) -> str:
    """Return a paragraph for each of the last jobs that ended without this endpoint's doing."""
    ended = [block for block, status in statuses.items() if status.terminal and status.state != JobState.SCALED_IN]
    last = sorted(ended, key=int)[-_SHOWN_JOBS:]
    return "\n".join(describe(parsl, block, statuses[block]) for block in last)


def describe(parsl: HighThroughputExecutor, block: str, status: JobStatus) -> str:
    """Return a paragraph about the job of a block: its state, and the last lines that it printed if it has ended."""
    job = parsl.blocks_to_job_id.get(block)
    if job is None:  # the scheduler didn't take it
        return str(status.message or f"Block {block} could not be submitted")
    if not status.terminal:
        return f"The batch job {job} {_present(status)}"
    lines = [f"The batch job {job} {_past(status)}"]
    lines += (status.stderr_summary or "").splitlines()[-_SHOWN_LINES:]
    return "\n".join(line for line in lines if line.strip())


def advise(error: BaseException) -> None:
    """Add to an error that has a job's last words what to do about them, where that is known."""
    for words, advice in _ADVICE.items():
        if words in str(error):
            error.add_note(advice)


def _present(status: JobStatus) -> str:
    if status.state == JobState.PENDING:
        return f"is now {status.message or WAITING}"
    return f"is {status.status_name}, but its worker pool has ended or can't be reached"


def _past(status: JobStatus) -> str:
    if status.state == JobState.SCALED_IN:
        return "was cancelled by the endpoint"
    if status.state == JobState.MISSING and status.message:
        return str(status.message)
    return f"ended as {with_details(status)}"


def with_details(status: JobStatus) -> str:
    """Return the state of a job that has ended, with its exit code and what else is known."""
    code = "" if status.exit_code is None else f"exit code {status.exit_code}"
    details = ", ".join(part for part in (code, status.message) if part)
    return f"{status.status_name} ({details})" if details else str(status.status_name)
