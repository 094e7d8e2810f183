"""A user's script: the unchanged SDK, an endpoint's uuid, one executor for each configuration.

Reads one JSON document from stdin, {endpoint, token, configs, tasks, seconds, as_source}, and prints a JSON line for
each result: {config, task, result} or {config, task, error}. With `as_source` functions are sent as source code, which
workers with another Python can run. Nothing of Twinlock is imported.
"""

import json
import sys
import time
from concurrent.futures import Future, as_completed
from contextlib import ExitStack

from globus_compute_sdk import Client, Executor
from globus_compute_sdk.errors import TaskExecutionFailed, TaskPending
from globus_compute_sdk.serialize import ComputeSerializer, PureSourceTextInspect
from globus_sdk import AccessTokenAuthorizer, GlobusError


def where_am_i(task: int, seconds: float) -> dict[str, object]:
    """Return who runs this, and in which batch job, after so many seconds."""
    import os
    import time
    from pathlib import Path

    time.sleep(seconds)

    names = ("SLURM_JOB_ACCOUNT", "SLURM_JOB_ID", "HOME", "GLOBUS_COMPUTE_ENDPOINT_NAME")
    ids = {"uid": os.getuid(), "gid": os.getgid(), "groups": os.getgroups(), "pid": os.getpid()}
    return ids | {
        "task": task,
        "directory": Path.cwd().name,
        "environment": {name: os.environ.get(name) for name in names},
    }


def main() -> None:
    """Submit every configuration's tasks at once, print results as they come."""
    order = json.load(sys.stdin)
    client = Client(local_compute_services=True, authorizer=AccessTokenAuthorizer(order["token"]))
    serializer = ComputeSerializer(strategy_code=PureSourceTextInspect()) if order["as_source"] else None
    with ExitStack() as stack:
        futures = {}
        for config in order["configs"]:
            executor = Executor(
                endpoint_id=order["endpoint"], client=client, user_endpoint_config=config, serializer=serializer
            )
            stack.enter_context(executor)
            for task in range(order["tasks"]):
                futures[executor.submit(where_am_i, task, order["seconds"])] = {"config": config, "task": task}
        for future in as_completed(futures):
            print(json.dumps(futures[future] | outcome(client, future)), flush=True)


def outcome(client: Client, future: Future[object]) -> dict[str, object]:
    """Return what a task returned, or why it failed.

    The SDK stops listening for results after five attempts to connect, and RabbitMQ may take longer than these to
    restart. The task goes on, and its result can be asked for.
    """
    error = future.exception()
    task_id = getattr(future, "task_id", None)
    if error is None:
        return {"result": future.result()}
    if task_id is None or "SDK thread quit" not in str(error):
        return {"error": str(error)}
    return asked(client, task_id)


def asked(client: Client, task_id: str) -> dict[str, object]:
    """Return the same by asking the service again and again, for a minute; it may be away for some of the time."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return {"result": client.get_result(task_id)}
        except TaskExecutionFailed as error:
            return {"error": str(error)}
        except (TaskPending, GlobusError) as error:
            if time.monotonic() > deadline:
                return {"error": str(error)}
        time.sleep(0.5)


if __name__ == "__main__":
    main()
