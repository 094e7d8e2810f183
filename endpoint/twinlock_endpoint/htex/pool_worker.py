"""A worker of the pool: Parsl's loop in a fork, with a pipe in the place of multiprocessing's queues."""

import contextlib
import logging
import os
import pickle
import select
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn

from parsl.executors.high_throughput import process_worker_pool as parsl_pool
from parsl.log_utils import set_file_logger
from parsl.serialize import serialize
from parsl.serialize.concretes import DillSerializer
from setproctitle import setproctitle

from twinlock_endpoint import exits
from twinlock_endpoint.htex.pipe import PoolEnd, WorkerEnd, pair
from twinlock_endpoint.zygote import detach

_END_S = 1.0  # from the end of a worker's pipe to the end of its process


@dataclass(slots=True, eq=False)
class Worker:
    """A worker as the pool sees it."""

    number: int
    """Its place among the workers of the pool, from 0."""
    pid: int
    pipe: PoolEnd
    pidfd: int
    """Says that the process has ended. The pipe may not: a process that a task forked can have it too."""
    began: float = field(default_factory=time.monotonic)
    """When it was started, by the monotonic clock."""
    task: int | None = None
    """The number of the task that it has; None while it is idle."""

    def give(self, task: dict[str, Any]) -> bool:
        """Hand over a task. Return False if the worker has died, or is killed since it doesn't take one."""
        self._wake()
        try:
            self.pipe.send(pickle.dumps(task))
        except OSError:
            os.kill(self.pid, signal.SIGKILL)
            return False
        self.task = task["task_id"]
        return True

    def take(self) -> bytes | None:
        """Return the packed result of its task; None while it isn't all there.

        Raise `OSError` if the worker has closed the pipe, or if its function wrote into it.
        """
        result = self.pipe.receive()
        if result is not None:
            self.task = None
        return result

    def _wake(self) -> None:
        """Continue the worker if it is stopped (SIGSTOP).

        Its last function may have left a program that stopped it when nobody waited for it.
        """
        if os.waitid(os.P_PIDFD, self.pidfd, os.WSTOPPED | os.WNOHANG) is not None:
            os.kill(self.pid, signal.SIGCONT)

    def end(self) -> str:
        """Close the pipe, wait for the process, and return how it ended.

        A worker that only closed or misused its pipe is killed.
        """
        self.pipe.close()
        ended = not self.pipe.misused and bool(select.select([self.pidfd], [], [], _END_S)[0])
        if not ended:
            os.kill(self.pid, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        os.close(self.pidfd)
        how = exits.describe(os.waitstatus_to_exitcode(status))
        return how if ended else "was killed, since it had closed or misused its connection to the pool of workers"


def start(number: int, work: Callable[[WorkerEnd], NoReturn]) -> Worker:
    """Fork a worker, which does `work`. Raise `OSError` if the system has no process or no descriptor left."""
    ours, theirs = pair()
    try:
        pid = os.fork()
        if pid == 0:
            work(theirs)
        try:
            return Worker(number, pid, ours, os.pidfd_open(pid))
        except OSError:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
    except OSError:
        ours.close()
        raise
    finally:
        theirs.close()


class _Queues:
    """The task queue and the result queue that Parsl's loop asks for, in one."""

    def __init__(self, pipe: WorkerEnd) -> None:
        self._pipe = pipe

    def get(self, timeout: float) -> Any:
        """Return the next task, however long that takes.

        The timeout is for a look whether the pool still lives; here the pool's end is this pipe's.
        """
        try:
            return pickle.loads(self._pipe.receive())  # noqa: S301 - from the pool that this is a fork of
        except EOFError:
            raise SystemExit(0) from None

    def put(self, result: bytes) -> None:
        self._pipe.send(result)


class _Ready:
    """The count of idle workers that Parsl's loop keeps; the pool knows it anyway."""

    value = 0

    def get_lock(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()


def _serialize(value: Any, buffer_threshold: int) -> bytes:
    """Serialize as Parsl does, but bytes without dill.

    All results of `execute_task` are bytes, which need none of what dill does beyond pickle.
    """
    if type(value) is bytes:
        return bytes(DillSerializer.identifier + b"\n" + pickle.dumps(value))
    return bytes(serialize(value, buffer_threshold=buffer_threshold))


def _log_if_possible(*arguments: Any, **keywords: Any) -> None:
    """Open the log if that is possible.

    A function may have removed the log's folder or filled the home; the next tasks need a worker all the same.
    """
    with contextlib.suppress(OSError):
        set_file_logger(*arguments, **keywords)


def run(pipe: WorkerEnd, pool: int, **arguments: Any) -> NoReturn:
    """Work until the pool's process `pool` ends."""
    code = 1
    try:
        detach.die_with(pool)
        detach.close_all_but(pipe.fileno())
        for handler in list(logging.getLogger("parsl").handlers):  # the pool's log isn't the worker's
            logging.getLogger("parsl").removeHandler(handler)
            logging.getLogger("concurrent.futures").removeHandler(handler)
        setproctitle(f"parsl: HTEX worker {arguments['worker_id']} of block {arguments['block_id']}")
        if not arguments["debug"]:
            parsl_pool.logger.setLevel(logging.WARNING)  # else three lines for each task, a third of what it costs
        parsl_pool.serialize = _serialize
        parsl_pool.set_file_logger = _log_if_possible
        queues = _Queues(pipe)
        parsl_pool.worker(
            task_queue=queues,
            result_queue=queues,
            monitoring_queue=None,
            ready_worker_count=_Ready(),
            tasks_in_progress={},
            task_queue_timeout=0,
            manager_pid=pool,
            **arguments,
        )
        code = 0
    except SystemExit:
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        detach.leave(code)
