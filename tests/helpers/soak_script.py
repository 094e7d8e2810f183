"""The script of a user in a soak: the unchanged SDK, with one executor for each configuration.

The first line of stdin is {endpoint, token}, each further one an order {id, config, act, args}; for each order a line
{id, result} or {id, error} is printed, in which `result` is the value's `repr`. The act "explain" isn't submitted: its
result is what the service knows of the tasks that haven't ended. Nothing of Twinlock is imported.

The SDK's listener has two faults (in 4.19; `_ResultWatcher`), for which the service is asked instead; the line then has
`fault_of_sdk` too. A future that was cancelled, and whose task fails, raises InvalidStateError in it: it connects
anew, and the futures whose results came together with that one never get them. And a result that isn't acknowledged
when its connection ends is acknowledged by its former channel, again and again, until the listener gives up.
"""

import json
import logging
import sys
import threading
import time
from concurrent.futures import CancelledError, Future
from typing import Any

import soak_acts
from globus_compute_sdk import Client, Executor
from globus_compute_sdk.errors import TaskPending
from globus_compute_sdk.sdk.executor import _RESULT_WATCHERS
from globus_compute_sdk.serialize import PureSourceTextInspect
from globus_sdk import AccessTokenAuthorizer, GlobusError

_LOOK_S = 30.0
"""Seconds between two looks at what the SDK has received."""

_ANSWER_S = 120.0
"""Seconds for the service to have a task's result."""

_KNOWN_ACCIDENTS = {"InvalidStateError", "ChannelWrongStateError"}
"""What the SDK's listener raises by its own faults, and nothing that comes from a service or RabbitMQ."""

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
        self._accidents = Accidents()
        logging.getLogger("globus_compute_sdk.sdk.executor").addHandler(self._accidents)

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
        while not _ends_within(future, _LOOK_S):
            task = getattr(future, "task_id", None)
            if task is not None and _has_lost(task):
                return self._asked(task) | {"fault_of_sdk": "a result was received, and its future didn't get it"}
        try:
            return {"result": repr(future.result())[:1000]}
        except CancelledError:
            return {"error": "cancelled"}
        except BaseException as error:
            task = getattr(future, "task_id", None)
            if task is not None and "SDK thread quit" in str(error) and self._accidents.kinds <= _KNOWN_ACCIDENTS:
                return self._asked(task) | {"fault_of_sdk": "the listener gave up"}
            return {"error": f"{type(error).__name__}: {error}"[:5000]}

    def _asked(self, task: str) -> dict[str, str]:
        deadline = time.monotonic() + _ANSWER_S
        while True:
            try:
                return {"result": repr(self._client.get_result(task))[:1000]}
            except (TaskPending, GlobusError) as error:
                if time.monotonic() > deadline:
                    return {"error": f"no result: {error}"}
            except Exception as error:
                return {"error": str(error)[:5000]}
            time.sleep(0.5)


class Accidents(logging.Handler):
    """The kinds of exceptions that ended the SDK's listeners."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.kinds: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Note it; what is printed goes to the script's log as well."""
        print(self.format(record), file=sys.stderr, flush=True)
        if record.exc_info and record.exc_info[0]:
            self.kinds.add(record.exc_info[0].__name__)


def _ends_within(future: Future[Any], seconds: float) -> bool:
    """Whether a future ends in that time. One that was cancelled has ended, which `wait` doesn't see."""
    try:
        future.exception(seconds)
    except TimeoutError:
        return False
    except CancelledError:
        return True
    return True


def _has_lost(task: str) -> bool:
    """Whether the SDK has a task's result, and no longer the future that waits for it."""
    for each in list(_RESULT_WATCHERS.values()):
        received, waiting = each._received_results, each._open_futures  # noqa: SLF001 - nothing else tells it
        if task in received and task not in waiting:
            return True
    return False


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
