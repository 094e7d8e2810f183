"""A worker of the pool: Parsl's loop in a fork, with a pipe in the place of multiprocessing's queues."""

import contextlib
import logging
import os
import pickle
import queue
import sys
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, NoReturn

from parsl.executors.high_throughput.process_worker_pool import worker as parsl_worker
from setproctitle import setproctitle

from twinlock_endpoint.zygote import fresh

_LOOK_S = 30


@dataclass(slots=True, eq=False)
class Worker:
    """A worker as the pool sees it. `task` is the number of the task that it has."""

    number: int
    pid: int
    pipe: "Connection[Any, Any]"
    task: int | None = None

    def give(self, task: dict[str, Any]) -> bool:
        """Hand over a task; False where the worker has died."""
        try:
            self.pipe.send_bytes(pickle.dumps(task))
        except OSError:
            return False
        self.task = task["task_id"]
        return True

    def take(self) -> bytes | None:
        """The packed result of its task; None where the worker has died."""
        try:
            result = self.pipe.recv_bytes()
        except (EOFError, OSError):
            return None
        self.task = None
        return result


class _Queues:
    """The task queue and the result queue that Parsl's loop asks for, in one."""

    def __init__(self, pipe: "Connection[Any, Any]") -> None:
        self._pipe = pipe

    def get(self, timeout: float) -> Any:
        if not self._pipe.poll(timeout):
            raise queue.Empty
        try:
            return pickle.loads(self._pipe.recv_bytes())  # noqa: S301 - from the pool that this is a fork of
        except EOFError:
            raise SystemExit(0) from None

    def put(self, result: bytes) -> None:
        self._pipe.send_bytes(result)


class _Ready:
    """The count of idle workers, which the pool knows without."""

    value = 0

    def get_lock(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()


def run(pipe: "Connection[Any, Any]", pool: int, **arguments: Any) -> NoReturn:
    """Work until the pool's process `pool` ends."""
    code = 1
    try:
        fresh.die_with(pool)
        fresh.close_all_but(pipe.fileno())
        for handler in list(logging.getLogger("parsl").handlers):  # the pool's log isn't the worker's
            logging.getLogger("parsl").removeHandler(handler)
            logging.getLogger("concurrent.futures").removeHandler(handler)
        setproctitle(f"parsl: HTEX worker {arguments['worker_id']} of block {arguments['block_id']}")
        queues = _Queues(pipe)
        parsl_worker(
            task_queue=queues,
            result_queue=queues,
            monitoring_queue=None,
            ready_worker_count=_Ready(),
            tasks_in_progress={},
            task_queue_timeout=_LOOK_S,
            manager_pid=pool,
            **arguments,
        )
        code = 0
    except SystemExit:
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
