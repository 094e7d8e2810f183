"""Results that the endpoint itself makes, for tasks that no worker answers."""

import time
import traceback
from collections.abc import Sequence

from twinlock_endpoint import messages

_FAILED = "An error occurred during the execution of this task"


def not_allowed(task_id: str, function_id: str, endpoint_id: str) -> bytes:
    """The answer to a task whose function this endpoint may not run."""
    text = f"Function {function_id} not permitted on endpoint {endpoint_id}"
    details = {"fid": function_id, "eid": endpoint_id}
    return _pack(task_id, text, ("FUNCTION_NOT_ALLOWED", text), details)


def not_started(task_id: str, reason: object) -> bytes:
    """The answer to a task that never got into the engine."""
    text = f"Failed to start task: {reason}"
    return _pack(task_id, text, ("RemoteExecutionError", _FAILED))


def lost(task_id: str, failures: Sequence[BaseException], hint: str = "") -> bytes:
    """The answer to a task that no worker finished: one failure for each attempt, the last one last, then a hint.

    The SDK finds the names of some exceptions in the text (WorkerLost) and adds its advice.
    """
    texts = ["".join(traceback.format_exception(failure)) for failure in failures]
    if len(texts) > 1:
        texts = [f"Attempt {number} of {len(texts)}:\n{text}" for number, text in enumerate(texts, start=1)]
    return _pack(
        task_id,
        "\n".join([*texts, hint] if hint else texts),
        ("RemoteExecutionError", _FAILED),
    )


def _pack(task_id: str, data: str, error: tuple[str, str], details: dict[str, str] | None = None) -> bytes:
    ended = messages.transition("execution-end", "interchange", time.time_ns())
    return messages.result(task_id, data, [ended], error=error, details=details)
