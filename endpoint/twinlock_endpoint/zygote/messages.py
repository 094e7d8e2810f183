"""What Parsl's messages between executor, interchange, pool and worker say about a task."""

import pickle
import platform
import sys
from typing import Any

from parsl.app.errors import RemoteExceptionWrapper
from parsl.executors.high_throughput.errors import WorkerLost
from parsl.serialize import serialize

_NO_PRIORITY = float("inf")

UNREACHABLE = pickle.dumps({"type": "unreachable"})
"""From our interchange to the executor, among the results: a pool can't be reached, its job has perhaps ended."""

RETIRE_BLOCK = "RETIRE_BLOCK"
"""To our interchange, in a list with a block's name: send it no task any more. The answer: whether it has none."""


def task_id(task: dict[str, Any]) -> str:
    """The UUID of a task on its way to a worker: the first argument of `execute_task` behind the body."""
    return str(task["context"]["task_executor"]["a"][0])


def order(task: dict[str, Any]) -> tuple[float, int]:
    """Which task comes first: the interchange's own order, by the user's priority and then by age."""
    resources = task["context"].get("resource_spec", {})
    return resources.get("priority", _NO_PRIORITY), task["task_id"]


def lost(number: int, task: int, how: str) -> bytes:
    """The result for a task whose worker died, as Parsl's pool makes it, but with the way in which it ended.

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
