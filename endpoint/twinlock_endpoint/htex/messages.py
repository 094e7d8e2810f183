"""What Parsl's messages between executor, interchange, pool and worker say about a task."""

import pickle
import platform
import sys
from typing import Any

from parsl.app.errors import RemoteExceptionWrapper
from parsl.executors.high_throughput.errors import WorkerLost
from parsl.serialize import deserialize, serialize
from parsl.serialize.concretes import DillSerializer

_NO_PRIORITY = float("inf")
_DILL = DillSerializer.identifier + b"\n"

UNREACHABLE = pickle.dumps({"type": "unreachable"})
"""A message from our interchange to the executor, among the results: a pool is unreachable, its job may have ended."""


def undelivered(task: int) -> bytes:
    """Pack the news that the task of this number was lost before it began.

    It goes from our interchange to the executor, among the results.
    """
    return pickle.dumps({"type": "undelivered", "task_id": task})


RETIRE_BLOCK = "RETIRE_BLOCK"
"""A command to our interchange, in a list with a block's name: send it no more tasks.

The answer is whether the block has none.
"""


def task_id(task: dict[str, Any]) -> str:
    """Return the UUID of a task on its way to a worker: the first argument of `execute_task` behind the body."""
    return str(task["context"]["task_executor"]["a"][0])


def order(task: dict[str, Any]) -> tuple[float, int]:
    """Return by what tasks are ordered, as the interchange orders them: by the user's priority and then by age."""
    resources = task["context"].get("resource_spec", {})
    return resources.get("priority", _NO_PRIORITY), task["task_id"]


def lost(number: int, task: int, how: str) -> bytes:
    """Pack the result for a task whose worker died, as Parsl's pool makes it, but with the way in which it ended.

    Args:
        number: the worker's.
        task: Parsl's number of the task.
        how: what to say after "the process".
    """
    try:
        error = WorkerLost(number, platform.node())
        error.add_note(f"The worker's process {how}.")
        raise error
    except WorkerLost:
        exception = serialize(RemoteExceptionWrapper(*sys.exc_info()))
    return pickle.dumps({"type": "result", "task_id": task, "exception": exception})


def exception(payload: bytes) -> BaseException:
    """Return the error of a result, with the remote traceback only: whoever raised it here would add a frame.

    From the words in such a frame the SDK concludes that its user has a problem with serialization.
    """
    error: BaseException = deserialize(payload).get_exception()
    return error


def result(payload: bytes) -> Any:
    """Return the value of a result.

    Parsl has dill read everything; the bytes that `execute_task` returns are a plain pickle behind dill's identifier.
    """
    if payload.startswith(_DILL):
        return pickle.loads(memoryview(payload)[len(_DILL) :])  # noqa: S301
    return deserialize(payload)
