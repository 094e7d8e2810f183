"""Executes one task in a worker, whatever started the worker: Parsl on a node, a pool of processes or of threads.

Workers import this module alone, so it needs nothing but globus-compute-sdk and globus-compute-common. The environment
variables and the form of the result are the peer's, on which functions and the service rely.
"""

import functools
import os
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from globus_compute_common.messagepack import pack, unpack
from globus_compute_common.messagepack.message_types import Result, ResultErrorDetails, Task, TaskTransition
from globus_compute_common.tasks import ActorName, TaskState
from globus_compute_sdk.errors import MaxResultSizeExceeded
from globus_compute_sdk.sdk.utils import get_env_details
from globus_compute_sdk.serialize import ComputeSerializer

RESULT_LIMIT = 10 * 1024 * 1024


class NotATaskError(Exception):
    """The message that was to be executed is no task."""


def execute_task(
    body: bytes,
    task_id: str,
    endpoint_id: str,
    *,
    run_dir: str,
    run_in_sandbox: bool = False,
    task_deserializers: Sequence[str] = (),
    result_serializers: Sequence[str] = (),
    result_limit: int = RESULT_LIMIT,
) -> bytes:
    """Run the function of a packed task and return the packed result, which may hold the function's exception.

    `run_dir` becomes the working folder, with `run_in_sandbox` a folder of the task's own in it. `result_limit` is in
    bytes. Serializers are import paths of the SDK's strategies; none means any.
    """
    started = _transition(TaskState.EXEC_START)
    try:
        _enter(task_id, Path(run_dir), run_in_sandbox)
        data = _run(body, task_deserializers, result_serializers)
        if len(data) > result_limit:
            raise MaxResultSizeExceeded(len(data), result_limit)
        error = None
    except (Exception, SystemExit) as exception:  # sys.exit() in a function ends the function, not the worker
        data, error = _describe(exception)
    result = Result(
        task_id=task_id,
        data=data,
        error_details=error,
        details={**_environment(), "endpoint_id": endpoint_id},
        task_statuses=[started, _transition(TaskState.EXEC_END)],
    )
    packed: bytes = pack(result)
    return packed


def _transition(state: TaskState) -> TaskTransition:
    return TaskTransition(timestamp=time.time_ns(), state=state, actor=ActorName.WORKER)


def _enter(task_id: str, folder: Path, sandbox: bool) -> None:
    os.environ["GC_TASK_UUID"] = task_id
    os.environ.pop("GC_TASK_SANDBOX_DIR", None)
    if sandbox:
        folder = folder / task_id
        os.environ["GC_TASK_SANDBOX_DIR"] = str(folder)
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)


def _run(body: bytes, deserializers: Sequence[str], serializers: Sequence[str]) -> str:
    task = unpack(body)
    if not isinstance(task, Task):
        raise NotATaskError(f"a message of type {type(task).__name__} is no task")
    serializer = _serializer(tuple(deserializers))
    function, positional, keywords = serializer.unpack_and_deserialize(task.task_buffer)
    value = _timed(function)(*positional, **keywords)
    return str(serializer.serialize_from_list(value, serializers))


def _timed(function: Callable[..., Any]) -> Callable[..., Any]:
    "The function under the time limit of GC_TASK_TIMEOUT, in seconds, where there is one."
    seconds = float(os.environ.get("GC_TASK_TIMEOUT") or 0)
    if seconds <= 0:
        return function
    from parsl.app.python import timeout

    limited: Callable[..., Any] = timeout(function, seconds)
    return limited


def _describe(exception: BaseException) -> tuple[str, ResultErrorDetails]:
    "The text that the SDK raises on the user's side, and the code and message of the service's task record."
    if isinstance(exception, MaxResultSizeExceeded | NotATaskError):
        name = type(exception).__name__
        return repr(exception), ResultErrorDetails(code=name, user_message=f"remote error: {exception}")
    text = "".join(traceback.format_exception(type(exception), exception, _users_part(exception)))
    message = "An error occurred during the execution of this task"
    return text, ResultErrorDetails(code="RemoteExecutionError", user_message=message)


def _users_part(exception: BaseException) -> Any:
    "The traceback below this module's frames, so that it starts in the user's function; all of it otherwise."
    step = exception.__traceback__
    while step is not None and step.tb_frame.f_code.co_filename == __file__:
        step = step.tb_next
    return step or exception.__traceback__


@functools.cache
def _serializer(deserializers: tuple[str, ...]) -> ComputeSerializer:
    return ComputeSerializer(allowed_deserializer_types=deserializers)


@functools.cache
def _environment() -> dict[str, Any]:
    return dict(get_env_details())
