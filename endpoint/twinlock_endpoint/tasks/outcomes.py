"""The outcomes of tasks: what each way to end means for the task's user, and for an audit."""

from dataclasses import dataclass

from twinlock_endpoint.errors import DamagedError, InterruptedTaskError
from twinlock_endpoint.tasks import results
from twinlock_endpoint.worker import messages

Failures = list[BaseException]
"""The reasons why a task's attempts failed, the last one last."""

_NO_ROOM = "It can't be noted on disk"
_LONGEST_REASON = 300  # characters of a record in an audit log


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a task."""

    result: bytes
    """The packed result."""

    event: str
    """What an audit log gets of it."""


def answered(task_id: str, sent: bytes) -> Outcome:
    """Return the outcome of a task for which a worker has sent something: its result, if nothing has changed that."""
    if messages.is_result_of(task_id, sent):
        return Outcome(sent, "EXEC_END")
    return _failed(results.unreadable(task_id), "Its worker has sent no result")


def not_allowed(task_id: str, function_id: str, endpoint_id: str) -> Outcome:
    """Return the outcome of a task whose function this endpoint may not run."""
    return _failed(results.not_allowed(task_id, function_id, endpoint_id), "Function not permitted on endpoint")


def refused(task_id: str, reason: str) -> Outcome:
    """Return the outcome of a task that may not run here; the first line of the reason is for the audit too."""
    told = reason.partition("\n")[0][:_LONGEST_REASON]
    return _failed(results.not_admitted(task_id, reason), f"It was refused: {told}")


def not_started(task_id: str, reason: object) -> Outcome:
    """Return the outcome of a task that never got into the engine."""
    return _failed(results.not_started(task_id, reason), "It can't be started")


def not_stored(task_id: str, error: OSError) -> Outcome:
    """Return the outcome of a new task that the disk doesn't take."""
    return _failed(results.not_started(task_id, results.no_room(error)), _NO_ROOM)


def attempt_not_stored(task_id: str, failures: Failures, error: OSError) -> Outcome:
    """Return the outcome of a task that can't be tried (again), since the disk takes no note of that."""
    return _failed(results.lost(task_id, [*failures, OSError(results.no_room(error))]), _NO_ROOM)


def lost(task_id: str, failures: Failures, hint: str) -> Outcome:
    """Return the outcome of a task that no worker finished, and that may not be tried again."""
    return _failed(results.lost(task_id, failures, hint), "It was lost")


def engine_failed(task_id: str, failures: Failures) -> Outcome:
    """Return the outcome of a task whose engine broke; that is the last of the failures."""
    return _failed(results.lost(task_id, failures), "The engine can't run tasks any more")


def interruptions(attempts: int, retries: int) -> Failures:
    """Return the failures of a task that endpoints before this one have tried so often; `retries` are allowed."""
    return [InterruptedTaskError("interrupted: its process or its host died", retries)] * attempts


def interrupted(task_id: str, failures: Failures) -> Outcome:
    """Return the outcome of a task that an endpoint before this one had, and that may not be tried again."""
    return _failed(results.lost(task_id, failures), "Its endpoint was interrupted")


def damaged(task_id: str) -> Outcome:
    """Return the outcome of a task whose record in the journal is damaged."""
    return _failed(results.lost(task_id, [DamagedError()]), "Its record is damaged")


def shut_down(task_id: str, why: str, attempts: int, retries: int) -> Outcome:
    """Return the outcome of a task that this endpoint's end interrupts, after so many attempts; `why` is its reason."""
    if attempts:
        failures: Failures = [InterruptedTaskError(f"shut down ({why})", retries)] * attempts
        result = results.lost(task_id, failures)
    else:
        result = results.not_started(task_id, f"the endpoint was shut down ({why}) before that")
    return _failed(result, "The endpoint was shut down")


def _failed(result: bytes, why: str) -> Outcome:
    return Outcome(result, f"FAILED - {why}")
