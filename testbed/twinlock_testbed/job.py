"""A user's script: the unchanged SDK, an endpoint's uuid, one executor for each configuration.

Reads one JSON document from stdin, {endpoint, token, configs, tasks, seconds}, and prints a JSON line for each result:
{config, task, result} or {config, task, error}. Nothing of Twinlock is imported.
"""

import json
import sys
from concurrent.futures import as_completed
from contextlib import ExitStack

from globus_compute_sdk import Client, Executor
from globus_sdk import AccessTokenAuthorizer


def where_am_i(task: int, seconds: float) -> dict[str, object]:
    """Who runs this, and in which batch job; after so many seconds."""
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
    with ExitStack() as stack:
        futures = {}
        for config in order["configs"]:
            executor = Executor(endpoint_id=order["endpoint"], client=client, user_endpoint_config=config)
            stack.enter_context(executor)
            for task in range(order["tasks"]):
                futures[executor.submit(where_am_i, task, order["seconds"])] = {"config": config, "task": task}
        for future in as_completed(futures):
            error = future.exception()
            outcome = {"error": str(error)} if error else {"result": future.result()}
            print(json.dumps(futures[future] | outcome), flush=True)


if __name__ == "__main__":
    main()
