"""A user's script with signed work: `SignedExecutor` in place of the SDK's Executor, and everything else as before.

Reads one JSON document from stdin, {endpoint, token, user, key, config, tasks}, and prints a JSON line for each result
as it comes: {result} or {error}.
"""

import json
import sys
from concurrent.futures import Future, as_completed

from globus_compute_sdk import Client
from globus_sdk import AccessTokenAuthorizer
from twinlock_client import SignedExecutor


def where_am_i() -> dict[str, object]:
    """Return who runs this."""
    import os
    from pathlib import Path

    return {"uid": os.getuid(), "pid": os.getpid(), "directory": Path.cwd().name}


def main() -> None:
    """Submit all tasks at once, print results as they come."""
    order = json.load(sys.stdin)
    client = Client(local_compute_services=True, authorizer=AccessTokenAuthorizer(order["token"]))
    with SignedExecutor(
        order["endpoint"], client, user=order["user"], key=order["key"], user_endpoint_config=order["config"]
    ) as executor:
        futures = [executor.submit(where_am_i) for _ in range(order["tasks"])]
        for future in as_completed(futures):
            print(json.dumps(outcome(future)), flush=True)


def outcome(future: Future[object]) -> dict[str, object]:
    """Return what a task returned, or why there is nothing that can be believed."""
    error = future.exception()
    return {"result": future.result()} if error is None else {"error": f"{type(error).__name__}: {error}"}


if __name__ == "__main__":
    main()
