"""How a worker executes one task, whatever started the worker: Parsl on a node, a pool of processes or of threads.

The environment variables and the form of the result are the agent's, on which functions and the service rely.
"""

import functools
import os
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from globus_compute_sdk.errors import MaxResultSizeExceeded
from globus_compute_sdk.sdk.utils import get_env_details
from globus_compute_sdk.serialize import ComputeSerializer

from twinlock_endpoint.worker import environment, foreign_code, texts
from twinlock_endpoint.worker.messages import NotAMessageError, result, transition, unpack

RESULT_LIMIT = 10 * 1024 * 1024


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
    users_python: str = "",
) -> bytes:
    """Run the function of a packed task and return the packed result, which may hold the function's exception.

    `run_dir` becomes the working folder, with `run_in_sandbox` a folder of the task's own in it. `result_limit` is in
    bytes. Serializers are import paths of the SDK's strategies; none means any. `users_python` is the version that
    functions come from, for an error's explanation.
    """
    process = os.getpid()
    started = _transition("execution-start")
    try:
        _enter(task_id, run_dir, run_in_sandbox)
        data = _run(body, task_deserializers, result_serializers)
        if size := texts.too_long(data, result_limit):
            raise MaxResultSizeExceeded(size, result_limit)
        error = None
    except BaseException as exception:  # sys.exit() in a function, or a KeyboardInterrupt, ends that function only
        data, error = _describe(exception, foreign_code.explain(body, users_python))
    if os.getpid() != process:  # a copy that the function forked and that came back: it would be a second worker
        os._exit(0)
    states = [started, _transition("execution-end")]
    where = {"worker": f"{platform.node()}:{process}", "endpoint_id": endpoint_id}
    return result(task_id, data, states, error=error, details={**details(), **where})


def _transition(state: str) -> dict[str, Any]:
    return transition(state, "worker", time.time_ns())


def _enter(task_id: str, folder: str, sandbox: bool) -> None:
    environment.put("GC_TASK_UUID", task_id)
    os.environ.pop("GC_TASK_SANDBOX_DIR", None)
    if sandbox:
        folder = f"{folder}/{task_id}"
        environment.put("GC_TASK_SANDBOX_DIR", folder)
    try:
        os.chdir(folder)
    except FileNotFoundError:
        Path(folder).mkdir(parents=True, exist_ok=True)
        os.chdir(folder)


def _run(body: bytes, deserializers: Sequence[str], serializers: Sequence[str]) -> str:
    buffers = unpack(body, "task").get("task_buffer")
    if not isinstance(buffers, str):
        raise NotAMessageError("the task has no task_buffer")
    serializer = _serializer(tuple(deserializers))
    function, positional, keywords = serializer.unpack_and_deserialize(buffers)
    value = _timed(function)(*positional, **keywords)
    return str(serializer.serialize_from_list(value, serializers))


def _timed(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function under the time limit of GC_TASK_TIMEOUT, in seconds, if there is one."""
    seconds = float(os.environ.get("GC_TASK_TIMEOUT") or 0)
    if seconds <= 0:
        return function
    from twinlock_endpoint.htex.node import time_limit  # few tasks have one

    return time_limit.limited(function, seconds)


def _describe(exception: BaseException, hint: str) -> tuple[str, tuple[str, str]]:
    """Return the text that the SDK raises on the user's side, and the code and message of the service's task record.

    `hint` is a sentence about what may be the reason; empty if there is none.
    """
    if type(exception) in (MaxResultSizeExceeded, NotAMessageError):
        told = _too_large(exception) if isinstance(exception, MaxResultSizeExceeded) else repr(exception)
        return texts.cut(told), (type(exception).__name__, f"remote error: {texts.cut(str(exception), 1000)}")
    text = texts.describe(exception, _users_part(exception))
    if hint:
        text = f"{text}\n{hint}"
    return text, ("RemoteExecutionError", "An error occurred during the execution of this task")


def _too_large(error: MaxResultSizeExceeded) -> str:
    # Without a word of "serialize": to a text that has it the SDK adds advice about other trouble.
    size, limit = error.result_size, error.result_size_limit
    return (
        f"MaxResultSizeExceeded({size}, {limit}): The function returned a result of {size:,} bytes, as it would be "
        f"sent; at most {limit:,} bytes can be sent back. Write large results to a file and return the file's path."
    )


def _users_part(exception: BaseException) -> Any:
    """Return the traceback below this module's frames, so that it starts in the user's function; else all of it."""
    step = exception.__traceback__
    while step is not None and step.tb_frame.f_code.co_filename == __file__:
        step = step.tb_next
    return step or exception.__traceback__


@functools.cache
def _serializer(deserializers: tuple[str, ...]) -> ComputeSerializer:
    return ComputeSerializer(allowed_deserializer_types=deserializers)


@functools.cache
def details() -> dict[str, Any]:
    """Return what a result says about where it was made."""
    return dict(get_env_details())
