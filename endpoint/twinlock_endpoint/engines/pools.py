"""ThreadPoolEngine and ProcessPoolEngine: tasks run on this host, in a pool from the standard library."""

import multiprocessing
import multiprocessing.forkserver
import os
import shutil
import threading
import time
import traceback
from abc import abstractmethod
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.context import ForkServerContext, ForkServerProcess
from typing import Any, ClassVar, Self
from weakref import WeakSet

from twinlock_common.keys import nearest

from twinlock_endpoint import exits
from twinlock_endpoint.config.construct import construct
from twinlock_endpoint.engines import sockets_folder
from twinlock_endpoint.engines.base import Engine, Execution, Place, check_retries
from twinlock_endpoint.errors import ConfigError
from twinlock_endpoint.task import Task
from twinlock_endpoint.worker.execute import execute_task
from twinlock_endpoint.zygote import detach
from twinlock_endpoint.zygote.client import Zygote

_EXECUTION = frozenset(Execution.__dataclass_fields__)
_RETRIES = "max_retries_on_system_failure"
_END_GRACE_S = 2.0
_CLOSE_S = 15.0  # what was killed needs a turn of the processor to end


class PoolEngine(Engine):
    """The common part of both engines: their arguments, how a task gets into the pool, and the figures."""

    pool_arguments: ClassVar[frozenset[str]]
    """The names of arguments that go to the pool as they are."""
    default_workers: ClassVar[int]
    """The most workers, if the configuration doesn't say."""

    def __init__(self, execution: Execution, pool: dict[str, Any], max_retries_on_system_failure: int) -> None:
        check_retries(max_retries_on_system_failure)
        self._execution = execution
        self._arguments = pool
        self._place: Place
        self._submitted = 0
        self._outstanding = 0
        self.retries = max_retries_on_system_failure
        self.max_workers = pool.setdefault("max_workers", self.default_workers)
        self._executor = self._make()

    @classmethod
    def from_config(cls, arguments: dict[str, Any]) -> Self:
        """Return the engine, from its arguments in a configuration. Raise `ConfigError` with the one that is wrong."""
        arguments = {name: value for name, value in arguments.items() if name != "label"}
        retries = arguments.pop(_RETRIES, 0)
        for name in arguments.keys() - _EXECUTION - cls.pool_arguments:
            known = cls.pool_arguments | _EXECUTION | {"label", _RETRIES}
            raise ConfigError(f"{cls.__name__} has no argument {name!r}; {nearest(str(name), known)}")
        own = {name: value for name, value in arguments.items() if name in _EXECUTION}
        pool = {name: value for name, value in arguments.items() if name in cls.pool_arguments}
        execution = construct(cls.__name__, Execution, own)
        return construct(cls.__name__, cls, {"execution": execution, "pool": pool, _RETRIES: retries})

    @abstractmethod
    def _make(self) -> ThreadPoolExecutor | ProcessPoolExecutor: ...

    def start(self, place: Place) -> None:
        """Note where the engine runs; the pool is there already."""
        self._place = place

    def submit(self, task: Task) -> Future[bytes]:
        """Run a task in the pool. Raise `ValueError` if it has a resource specification."""
        if task.resources:
            raise ValueError(f"{type(self).__name__} takes no resource specification")
        positional, keywords = self._execution.call(task, self._place)
        future = self._executor.submit(execute_task, task.body, *positional, **keywords)
        self._submitted += 1
        self._outstanding += 1
        future.add_done_callback(self._done)
        return future

    def _done(self, _future: Future[bytes]) -> None:
        self._outstanding -= 1

    def figures(self) -> dict[str, Any]:
        """Return what the pool does and what this host has, named as for blocks."""
        import psutil

        return {
            "engine_type": type(self).__name__,
            "total_cores": os.cpu_count(),
            "total_mem": round(psutil.virtual_memory().available / 2**30, 1),
            "total_core_hrs": 0,
            "total_workers": self.max_workers,
            "max_workers_per_node": self.max_workers,
            "idle_workers": max(0, self.max_workers - self._outstanding),
            "pending_tasks": max(0, self._outstanding - self.max_workers),
            "outstanding_tasks": self._outstanding,
            "total_tasks": self._submitted,
            "scaling_enabled": False,
            "max_blocks": 1,
            "min_blocks": 1,
            "nodes_per_block": 1,
        }

    def stop(self) -> None:
        """Cancel the tasks that wait, and don't wait for those that run."""
        self._executor.shutdown(wait=False, cancel_futures=True)


class ThreadPoolEngine(PoolEngine):
    """An engine that runs tasks in threads of the endpoint itself.

    A task that still runs when the endpoint ends, ends with it.
    """

    pool_arguments = frozenset({"max_workers", "thread_name_prefix"})
    default_workers = min(32, (os.cpu_count() or 1) + 4)

    def _make(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(**self._arguments)


class ProcessPoolEngine(PoolEngine):
    """An engine that runs tasks in processes of their own.

    A process that dies takes all tasks of its pool with it; later tasks get a new pool. The processes are forks of
    multiprocessing's forkserver, which has imported what they need: the endpoint itself has threads (Parsl's or the
    loop's), and a fork of it could inherit a held lock.
    """

    pool_arguments = frozenset({"max_workers", "max_tasks_per_child"})
    default_workers = os.cpu_count() or 1
    _sockets = ""

    def prepare(self, zygote: Zygote | None = None) -> None:
        """Start the forkserver, which imports what workers need."""
        super().prepare(zygote)
        self._sockets = sockets_folder.choose()
        multiprocessing.set_forkserver_preload(["twinlock_endpoint.worker.preloaded"])
        multiprocessing.forkserver.ensure_running()

    def _make(self) -> ProcessPoolExecutor:
        self._context = _Context()
        return ProcessPoolExecutor(mp_context=self._context, initializer=_begin, **self._arguments)

    def submit(self, task: Task) -> Future[bytes]:
        """Run a task, in a new pool if the last one is broken."""
        try:
            future = super().submit(task)
        except BrokenProcessPool:
            self._executor = self._make()
            future = super().submit(task)
        future.add_done_callback(self._context.explain)
        return future

    def stop(self) -> None:
        """Terminate the pool's processes, and kill those that don't end in time."""
        # It waits until the pool's own thread has ended; or else Python reports the pool's semaphores as leaked.
        closing = threading.Thread(target=self._executor.shutdown, kwargs={"cancel_futures": True}, daemon=True)
        closing.start()
        children = multiprocessing.active_children()
        for child in children:
            child.terminate()
        deadline = time.monotonic() + _END_GRACE_S
        for child in children:
            child.join(max(0.0, deadline - time.monotonic()))
            child.kill()
        closing.join(_CLOSE_S)
        if self._sockets:
            shutil.rmtree(self._sockets, ignore_errors=True)


class _Process(ForkServerProcess):
    """A process that ends when its work has, without waiting for threads that a function left.

    Its pool would wait for it for ever.
    """

    def run(self) -> None:
        code = 1
        try:
            super().run()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            detach.leave(code)


class _Context(ForkServerContext):
    """The context that starts the pool's processes, and keeps them to say how one ended that broke the pool."""

    def __init__(self) -> None:
        super().__init__()
        # Weak: the pool forgets those that end in order.
        self._started: WeakSet[ForkServerProcess] = WeakSet()
        self._lock = threading.Lock()

    def Process(self, *arguments: Any, **keywords: Any) -> ForkServerProcess:  # type: ignore[override]  # noqa: N802
        process = _Process(*arguments, **keywords)
        with self._lock:
            self._started.add(process)
        return process

    def explain(self, future: Future[bytes]) -> None:
        """Add how the processes ended to the error of a task whose pool is broken; the pool's tasks share the error."""
        error = None if future.cancelled() else future.exception()
        if isinstance(error, BrokenProcessPool) and not hasattr(error, "__notes__"):
            with self._lock:
                codes = [process.exitcode for process in self._started]
            for code in (code for code in codes if code is not None):
                error.add_note(f"A process of the pool {exits.describe(code)}.")


def _begin() -> None:
    """Set up a worker: it ends with the server that it was forked from, which ends with the endpoint.

    The worker gets a group of its own, since a function's "kill 0", usual in shell scripts, would end the endpoint.
    """
    detach.die_with(os.getppid())
    _leave_server_to_endpoint()
    os.setpgid(0, 0)


def _leave_server_to_endpoint() -> None:
    """Close this worker's end of the server's pipe: the server ends with the last process that has one.

    That has to be the endpoint. Each worker gets one too, and waits for tasks after an endpoint that was killed.
    """
    server: Any = multiprocessing.forkserver._forkserver  # noqa: SLF001 - nothing public leads to the pipe
    if server._forkserver_alive_fd is not None:  # noqa: SLF001 - as above
        os.close(server._forkserver_alive_fd)  # noqa: SLF001 - as above
        server._forkserver_alive_fd = None  # noqa: SLF001 - as above
