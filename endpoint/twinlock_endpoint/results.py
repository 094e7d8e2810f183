"""Results that the endpoint itself makes, for tasks that no worker answers."""

import time
import traceback
from collections.abc import Sequence

from globus_compute_common.messagepack import pack
from globus_compute_common.messagepack.message_types import Result, ResultErrorDetails, TaskTransition
from globus_compute_common.tasks import ActorName, TaskState

_FAILED = "An error occurred during the execution of this task"


def not_allowed(task_id: str, function_id: str, endpoint_id: str) -> bytes:
    """The answer to a task whose function this endpoint may not run."""
    text = f"Function {function_id} is not allowed on endpoint {endpoint_id}"
    details = {"fid": function_id, "eid": endpoint_id}
    return _pack(task_id, text, ResultErrorDetails(code="FUNCTION_NOT_ALLOWED", user_message=text), details)


def not_started(task_id: str, reason: object) -> bytes:
    """The answer to a task that never got into the engine."""
    text = f"Failed to start task: {reason}"
    return _pack(task_id, text, ResultErrorDetails(code="RemoteExecutionError", user_message=_FAILED))


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
        ResultErrorDetails(code="RemoteExecutionError", user_message=_FAILED),
    )


def _pack(task_id: str, data: str, error: ResultErrorDetails, details: dict[str, str] | None = None) -> bytes:
    ended = TaskTransition(timestamp=time.time_ns(), state=TaskState.EXEC_END, actor=ActorName.INTERCHANGE)
    packed: bytes = pack(
        Result(task_id=task_id, data=data, error_details=error, details=details, task_statuses=[ended])
    )
    return packed
