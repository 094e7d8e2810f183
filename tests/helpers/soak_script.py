"""The script of a user in a soak: the unchanged SDK, with one executor for each configuration.

The first line of stdin is {endpoint, token}, each further one an order {id, config, act, args}; for each order a line
{id, result} or {id, error} is printed, in which `result` is the value's `repr`. The act "explain" isn't submitted: its
result is what the service knows of the tasks that haven't ended. Nothing of Twinlock is imported.
"""

import json
import sys
import threading
import time
from concurrent.futures import CancelledError, Future, wait
from typing import Any

import soak_acts
from globus_compute_sdk import Client, Executor
from globus_compute_sdk.errors import TaskPending
from globus_compute_sdk.serialize import PureSourceTextInspect
from globus_sdk import AccessTokenAuthorizer, GlobusError

_PATIENCE_S = 120.0
"""Seconds that the SDK may take to hear of a task's end, and the service to answer."""

_BURST = 16  # submissions in 16 s before the SDK waits with more; four by itself


class Script:
    """One user's executors, and what comes of their orders."""

    def __init__(self, endpoint: str, token: str) -> None:
        self._endpoint = endpoint
        self._client = Client(
            local_compute_services=True,
            authorizer=AccessTokenAuthorizer(token),
            code_serialization_strategy=PureSourceTextInspect(),
        )
        self._executors: dict[str, Executor] = {}
        self._under_way: dict[int, Future[Any]] = {}
        self._print = threading.Lock()

    def carry_out(self, order: dict[str, Any]) -> None:
        """Submit; the outcome is printed when it is there."""
        if order["act"] == "explain":
            self._say(order["id"], {"result": self._explain()})
            return
        act = getattr(soak_acts, order["act"])
        try:
            future = self._executor(order["config"]).submit(act, *order["args"])
        except RuntimeError:  # the SDK ends an executor whose submission was refused
            future = self._executor(order["config"], anew=True).submit(act, *order["args"])
        self._under_way[order["id"]] = future
        threading.Thread(target=self._tell, args=(order["id"], future)).start()
        if order["cancel"]:
            threading.Thread(target=_cancel, args=(future,)).start()

    def _executor(self, config: dict[str, Any], anew: bool = False) -> Executor:
        name = json.dumps(config)
        if anew or name not in self._executors:
            self._executors[name] = Executor(
                endpoint_id=self._endpoint,
                client=self._client,
                user_endpoint_config=config,
                api_burst_limit=_BURST,
            )
        return self._executors[name]

    def _tell(self, order: int, future: Future[Any]) -> None:
        outcome = self._outcome(future)
        del self._under_way[order]
        self._say(order, outcome)

    def _say(self, order: int, outcome: dict[str, str]) -> None:
        with self._print:
            print(json.dumps({"id": order} | outcome), flush=True)

    def _explain(self) -> str:
        lines = []
        for order, future in dict(self._under_way).items():
            task = getattr(future, "task_id", None)
            try:
                known = self._client.get_task(task) if task else "it wasn't submitted"
            except Exception as error:
                known = f"{type(error).__name__}: {error}"
            lines.append(f"order {order}: task {task}: {known}")
        return "\n".join(lines)

    def _outcome(self, future: Future[Any]) -> dict[str, str]:
        task = self._unheard(future)
        if task is not None:
            return self._asked(task)
        try:
            return {"result": repr(future.result())[:1000]}
        except CancelledError:
            return {"error": "cancelled"}
        except BaseException as error:
            # The SDK listens no more after five attempts to connect; the task goes on, and can be asked for.
            task = getattr(future, "task_id", None)
            if task is not None and "SDK thread quit" in str(error):
                return self._asked(task)
            return {"error": f"{type(error).__name__}: {error}"[:5000]}

    def _unheard(self, future: Future[Any]) -> str | None:
        """Wait for the future; or return its task, which has ended, and whose result the SDK doesn't find.

        A listener of the SDK's that gives up takes along what it was sent before it knew of the future.
        """
        while wait([future], _PATIENCE_S).not_done:
            task = getattr(future, "task_id", None)
            if task is not None and self._has_ended(task):
                print(f"task {task} has ended, and the SDK doesn't know it", file=sys.stderr, flush=True)
                return str(task)
        return None

    def _has_ended(self, task: str) -> bool:
        try:
            return not self._client.get_task(task)["pending"]
        except GlobusError:  # the service is away for a moment
            return False
        except Exception:  # it failed, or what it returned can't be unpacked here
            return True

    def _asked(self, task: str) -> dict[str, str]:
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                return {"result": repr(self._client.get_result(task))[:1000]}
            except (TaskPending, GlobusError) as error:
                if time.monotonic() > deadline:
                    return {"error": f"no result: {error}"}
            except Exception as error:
                return {"error": str(error)[:5000]}
            time.sleep(0.5)


def _cancel(future: Future[Any]) -> None:
    """Cancel it once it was submitted: after the refusal of one that was cancelled before, the SDK submits no more."""
    while not future.done() and getattr(future, "task_id", None) is None:
        time.sleep(0.05)
    future.cancel()


def main() -> None:
    """Carry out order after order."""
    script = Script(**json.loads(sys.stdin.readline()))
    for line in sys.stdin:
        script.carry_out(json.loads(line))


if __name__ == "__main__":
    main()
