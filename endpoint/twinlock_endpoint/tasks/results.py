"""Results that the endpoint itself makes, for tasks that no worker answers."""

import time
from collections.abc import Sequence

from twinlock_common.amqp.errors import RefusedMessageError

from twinlock_endpoint.worker import messages, texts

_FAILED = "An error occurred during the execution of this task"
_LONGEST = 1000  # characters of what names something


def not_allowed(task_id: str, function_id: str, endpoint_id: str) -> bytes:
    """Return the result of a task whose function this endpoint may not run."""
    text = f"Function {function_id} not permitted on endpoint {endpoint_id}"
    details = {"fid": function_id, "eid": endpoint_id}
    return _pack(task_id, text, ("FUNCTION_NOT_ALLOWED", text), details)


def not_started(task_id: str, reason: object) -> bytes:
    """Return the result of a task that never got into the engine."""
    text = f"Failed to start task: {texts.text_of(reason)}"
    return _pack(task_id, text, ("RemoteExecutionError", _FAILED))


def not_admitted(task_id: str, reason: str) -> bytes:
    """Return the result of a task that may not run here, for this reason."""
    return _pack(task_id, reason, ("RemoteExecutionError", reason))


def lost(task_id: str, failures: Sequence[BaseException], hint: str = "") -> bytes:
    """Return the result of a task that no worker finished: a failure for each attempt, the last one last, then a hint.

    The SDK finds the names of some exceptions in the text (WorkerLost) and adds its advice.
    """
    each = texts.LIMIT // max(1, len(failures))
    told = [texts.describe(failure, failure.__traceback__, each) for failure in failures]
    if len(told) > 1:
        told = [f"Attempt {number} of {len(told)}:\n{text}" for number, text in enumerate(told, start=1)]
    return _pack(
        task_id,
        "\n".join([*told, hint] if hint else told),
        ("RemoteExecutionError", _FAILED),
    )


def unreadable(task_id: str) -> bytes:
    """Return the result of a task whose worker has sent something that is none."""
    text = "The worker's result can't be read: the function has changed it, or the worker's Twinlock is another version"
    return _pack(task_id, text, ("RemoteExecutionError", _FAILED))


def refused(task_id: str, error: RefusedMessageError) -> bytes:
    """Return the result in place of one that RabbitMQ refuses for good."""
    text = (
        f"MaxResultSizeExceeded: The task ran, but its result (or error) can't be sent back: it is a message of "
        f"{error.size:,} bytes, which RabbitMQ refuses ({error.words}). Write large data to a file and return the "
        "file's path."
    )
    return _pack(task_id, text, ("MaxResultSizeExceeded", _FAILED))


def no_room(error: OSError) -> str:
    """Return what to tell of a task that the disk doesn't take."""
    return (
        f"the endpoint can't note the task on disk ({error.strerror}). Free some space in your home directory, "
        "or ask for more, then submit the task again"
    )


def _pack(task_id: str, data: str, error: tuple[str, str], details: dict[str, str] | None = None) -> bytes:
    ended = messages.transition("execution-end", "interchange", time.time_ns())
    error = (error[0], texts.cut(error[1], _LONGEST))
    details = details and {name: texts.cut(value, _LONGEST) for name, value in details.items()}
    return messages.result(task_id, texts.cut(data), [ended], error=error, details=details)
