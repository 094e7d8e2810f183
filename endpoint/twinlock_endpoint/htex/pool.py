"""Parsl's worker pool for this host, in a process without threads: the workers are forked from it, one pipe each.

To the interchange it is Parsl's Manager, and each worker runs Parsl's own loop. Only what lies between is ours. Parsl's
pool is made for any node: it starts an interpreter for each worker and one for what they share, and each task takes
several messages to the latter and a way through four threads.
"""

import heapq
import logging
import math
import os
import pickle
import signal
import sys
import time
from argparse import Namespace
from collections.abc import Iterator
from functools import partial
from importlib.metadata import Distribution, PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import zmq
from parsl.executors.high_throughput import process_worker_pool as parsl_pool
from parsl.executors.high_throughput.probe import probe_addresses
from parsl.log_utils import set_file_logger

from twinlock_endpoint.htex import messages, pool_worker
from twinlock_endpoint.htex.batching import Together
from twinlock_endpoint.htex.pipe import WorkerEnd
from twinlock_endpoint.htex.pool_arguments import manager_arguments
from twinlock_endpoint.journal.dispatched import Notes

log = logging.getLogger(parsl_pool.logger.name)

_REPORTED = ("twinlock", "globus-compute-sdk", "parsl", "dill")
_GRACE_S = 1.0
_PAUSE_S = 1.0  # before a worker that died as soon is started again, lest one that can't start takes all the time


# In the place of multiprocessing's context: this pool shares no object with its workers.
_UNSHARED = SimpleNamespace(
    cpu_count=os.cpu_count,
    Manager=lambda: SimpleNamespace(dict=dict, Queue=lambda: None),
    Queue=lambda: None,
    Value=lambda _kind, _value: None,
)


def main(arguments: list[str], dispatched: Path, ahead: int) -> None:
    """Run a pool with the arguments of Parsl's process_worker_pool.py until it is told to end; see `PoolProgram`."""
    chosen = parsl_pool.get_arg_parser().parse_args(arguments)
    chosen.logs = Path(chosen.logdir, f"block-{chosen.block_id}", chosen.uid)
    chosen.logs.mkdir(parents=True, exist_ok=True)
    level = logging.DEBUG if chosen.debug else logging.INFO
    set_file_logger(str(chosen.logs / "manager.log"), level=level)
    logging.getLogger("parsl").setLevel(level)
    parsl_pool.SpawnContext = _UNSHARED
    parsl_pool.distributions = _distributions  # the interchange is told all that are installed, which takes a while
    parsl_pool.probe_addresses = _probe
    parsl_pool._SCRIPT_LOAD_TIME = time.time()  # noqa: SLF001 - Parsl sets it at the import
    Pool(chosen, Notes(dispatched), ahead).start()


def _distributions() -> Iterator[Distribution]:
    for name in _REPORTED:
        try:
            yield Distribution.from_name(name)
        except PackageNotFoundError:
            continue


def _probe(context: Any, addresses: set[str], timeout_ms: int, identity: bytes) -> Any:
    """Probe the addresses, but not under the pool's own name.

    While the probe's connection lasts, the interchange ignores another of that name.
    """
    return probe_addresses(context, addresses, timeout_ms)


class Pool(parsl_pool.Manager):  # type: ignore[misc]  # Parsl ships no types
    """The one loop between the interchange and the workers."""

    def __init__(self, chosen: Namespace, notes: Notes, ahead: int) -> None:
        super().__init__(**manager_arguments(chosen))
        self.prefetch_capacity: int = max(self.prefetch_capacity, ahead)
        self._chosen = chosen
        self._notes = notes
        self._workers: dict[int, pool_worker.Worker] = {}  # by the descriptors of pipes
        self._processes: dict[int, pool_worker.Worker] = {}  # by those of processes
        self._idle: list[pool_worker.Worker] = []
        self._tasks: list[tuple[tuple[float, int], dict[str, Any]]] = []  # a heap
        self._poller = zmq.Poller()
        self._missing: list[tuple[float, int]] = []  # when to start which worker again
        self._stopping = False

    def start(self) -> None:
        """Start the workers, register at the interchange, and serve until the pool is told to end."""
        for number in range(self.worker_count):
            self._add_worker(number)
        self._interchange = self.zmq_context.socket(zmq.DEALER)
        self._interchange.setsockopt(zmq.IDENTITY, self.uid.encode())
        self._interchange.setsockopt(zmq.LINGER, 0)
        self._interchange.connect(self._ix_url)
        self._poller.register(self._interchange, zmq.POLLIN)
        self._interchange.send(pickle.dumps(self.create_reg_message() | {"pid": os.getpid()}))
        self._results = Together(self._interchange.send)
        try:
            self._serve()
        finally:
            self._results.flush()
            self._end_workers()

    def _serve(self) -> None:
        now = time.monotonic()
        beat_due, silent_at = now + self.heartbeat_period, now + self.heartbeat_threshold
        while not self._stopping:
            due = min(beat_due, silent_at, self._results.due, *(when for when, _ in self._missing))
            due = max(0.0, due - time.monotonic())
            for source, _ in self._poller.poll(math.ceil(due * 1000)):
                if source is self._interchange:
                    silent_at = time.monotonic() + self.heartbeat_threshold
                    self._heard(pickle.loads(self._interchange.recv()))  # noqa: S301 - Parsl's protocol
                else:
                    self._take_from(source)
            self._replace_missing()
            self._hand_out()
            now = time.monotonic()
            if not self._tasks or now >= self._results.due:
                self._results.flush()
            if now >= beat_due:
                self.heartbeat_to_incoming(self._interchange)
                beat_due = now + self.heartbeat_period
            if now >= silent_at:
                log.critical("Missing contact with interchange beyond heartbeat_threshold")
                self._stopping = True

    def _heard(self, message: Any) -> None:
        if message == parsl_pool.SHUTDOWN_CODE:
            log.info("Got shutdown message from interchange")
            self._stopping = True
        elif message != parsl_pool.HEARTBEAT_CODE:
            for task in message:
                heapq.heappush(self._tasks, (messages.order(task), task))

    def _hand_out(self) -> None:
        while self._tasks and self._idle:
            chosen, (_, task) = self._idle.pop(), self._tasks[0]
            self._notes.add([messages.task_id(task)])
            if not chosen.give(task):
                continue  # it has just died, which its pipe says next
            heapq.heappop(self._tasks)

    def _take_from(self, descriptor: int) -> None:
        """Take what a worker's pipe has, or note that its process has ended.

        Neither concerns a worker that was just dropped.
        """
        if descriptor in self._workers:
            self._done(self._workers[descriptor])
        elif descriptor in self._processes:
            ended = self._processes[descriptor]
            self._done(ended)  # its last result
            if descriptor in self._processes:
                self._died(ended)

    def _done(self, chosen: pool_worker.Worker) -> None:
        try:
            result = chosen.take()
        except OSError:
            self._died(chosen)
            return
        if result is not None:
            self._results.send(result)
            self._idle.append(chosen)

    def _died(self, chosen: pool_worker.Worker) -> None:
        self._drop(chosen)
        how = chosen.end()
        log.error("Worker %d %s", chosen.number, how)
        if chosen.task is not None:
            self._results.send(messages.lost(chosen.number, chosen.task, how))
        now = time.monotonic()
        self._missing.append((now + (_PAUSE_S if now < chosen.began + _PAUSE_S else 0), chosen.number))

    def _replace_missing(self) -> None:
        now = time.monotonic()
        due = [number for when, number in self._missing if when <= now]
        self._missing = [(when, number) for when, number in self._missing if when > now]
        for number in due:
            try:
                self._add_worker(number)
            except OSError as error:  # too many processes or files of this user
                if not self._workers:
                    raise
                log.error("Worker %d can't be started now: %s", number, error)
                self._missing.append((now + _PAUSE_S, number))

    def _add_worker(self, number: int) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        added = pool_worker.start(number, partial(self._work, number, os.getpid()))
        self._workers[added.pipe.fileno()] = added
        self._processes[added.pidfd] = added
        self._idle.append(added)
        for descriptor in (added.pipe.fileno(), added.pidfd):
            self._poller.register(descriptor, zmq.POLLIN)

    def _work(self, number: int, pool: int, pipe: WorkerEnd) -> NoReturn:
        pool_worker.run(
            pipe,
            pool,
            worker_id=number,
            pool_id=self.uid,
            pool_size=self.worker_count,
            cpu_affinity=self.cpu_affinity,
            accelerator=self.available_accelerators[number] if self.accelerators_available else None,
            block_id=self.block_id,
            logdir=self._chosen.logdir,
            log_config=None,
            debug=self._chosen.debug,
            mpi_launcher=self.mpi_launcher,
        )

    def _drop(self, chosen: pool_worker.Worker) -> None:
        for descriptor in (chosen.pipe.fileno(), chosen.pidfd):
            self._poller.unregister(descriptor)
        del self._workers[chosen.pipe.fileno()], self._processes[chosen.pidfd]
        if chosen in self._idle:
            self._idle.remove(chosen)

    def _end_workers(self) -> None:
        workers = list(self._workers.values())
        for one in workers:
            os.kill(one.pid, signal.SIGTERM)
        deadline = time.monotonic() + _GRACE_S
        for one in workers:
            while os.waitpid(one.pid, os.WNOHANG) == (0, 0):
                if time.monotonic() > deadline:
                    os.kill(one.pid, signal.SIGKILL)
                time.sleep(0.01)
