"""Parsl's worker pool for this host, in a process without threads: the workers are forked from it, one pipe each.

To the interchange it is Parsl's Manager, and in each worker Parsl's own loop runs. What lies between is ours: Parsl's
pool, made for any node, starts an interpreter for each worker and one for what they share, and each task takes
several messages to the latter and a way through four threads.
"""

import logging
import math
import os
import pickle
import platform
import signal
import sys
import time
from argparse import Namespace
from collections import deque
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError
from multiprocessing import Pipe
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import zmq
from parsl.app.errors import RemoteExceptionWrapper
from parsl.executors.high_throughput import process_worker_pool as parsl_pool
from parsl.executors.high_throughput.errors import WorkerLost
from parsl.executors.high_throughput.probe import probe_addresses
from parsl.log_utils import set_file_logger
from parsl.serialize import serialize

from twinlock_endpoint.zygote import worker

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


def main(arguments: list[str]) -> None:
    """Run a pool with the arguments of Parsl's process_worker_pool.py until it is told to end."""
    chosen = parsl_pool.get_arg_parser().parse_args(arguments)
    chosen.logs = Path(chosen.logdir, f"block-{chosen.block_id}", chosen.uid)
    chosen.logs.mkdir(parents=True, exist_ok=True)
    level = logging.DEBUG if chosen.debug else logging.INFO
    set_file_logger(str(chosen.logs / "manager.log"), level=level)
    logging.getLogger("parsl").setLevel(level)
    parsl_pool.SpawnContext = _UNSHARED
    parsl_pool.distributions = _distributions  # the interchange is told all that are installed, which takes a while
    parsl_pool.probe_addresses = _probe
    parsl_pool._SCRIPT_LOAD_TIME = time.time()
    Pool(chosen).start()


def _distributions() -> Iterator[Distribution]:
    for name in _REPORTED:
        try:
            yield Distribution.from_name(name)
        except PackageNotFoundError:
            continue


def _probe(context: Any, addresses: set[str], timeout_ms: int, identity: bytes) -> Any:
    "Not under the pool's own name: while the probe's connection lasts, the interchange ignores another of that name."
    return probe_addresses(context, addresses, timeout_ms)


class Pool(parsl_pool.Manager):  # type: ignore[misc]  # Parsl ships no types
    """One loop between the interchange and the workers."""

    def __init__(self, chosen: Namespace) -> None:
        super().__init__(**_manager_arguments(chosen))
        self._chosen = chosen
        self._workers: dict[int, worker.Worker] = {}
        self._idle: list[worker.Worker] = []
        self._tasks: deque[dict[str, Any]] = deque()
        self._poller = zmq.Poller()
        self._missing: list[tuple[float, int]] = []  # when to start which worker again
        self._stopping = False

    def start(self) -> None:
        for number in range(self.worker_count):
            self._add_worker(number)
        self._interchange = self.zmq_context.socket(zmq.DEALER)
        self._interchange.setsockopt(zmq.IDENTITY, self.uid.encode())
        self._interchange.setsockopt(zmq.LINGER, 0)
        self._interchange.connect(self._ix_url)
        self._poller.register(self._interchange, zmq.POLLIN)
        self._interchange.send(pickle.dumps(self.create_reg_message()))
        try:
            self._serve()
        finally:
            self._end_workers()

    def _serve(self) -> None:
        now = time.monotonic()
        beat_due, silent_at = now + self.heartbeat_period, now + self.heartbeat_threshold
        while not self._stopping:
            due = max(0.0, min(beat_due, silent_at, *(when for when, _ in self._missing)) - time.monotonic())
            for source, _ in self._poller.poll(math.ceil(due * 1000)):
                if source is self._interchange:
                    silent_at = time.monotonic() + self.heartbeat_threshold
                    self._heard(pickle.loads(self._interchange.recv()))  # noqa: S301 - Parsl's protocol
                else:
                    self._done(self._workers[source])
            self._replace_missing()
            self._hand_out()
            now = time.monotonic()
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
            self._tasks.extend(message)

    def _hand_out(self) -> None:
        while self._tasks and self._idle:
            chosen = self._idle.pop()
            if not chosen.give(self._tasks[0]):
                continue  # it has just died, which its pipe says next
            self._tasks.popleft()

    def _done(self, chosen: worker.Worker) -> None:
        result = chosen.take()
        if result is not None:
            self._interchange.send(result)
            self._idle.append(chosen)
            return
        log.error("Worker %d has died", chosen.number)
        if chosen.task is not None:
            self._interchange.send(_lost(chosen.number, chosen.task))
        self._drop(chosen)
        now = time.monotonic()
        self._missing.append((now + (_PAUSE_S if now < chosen.began + _PAUSE_S else 0), chosen.number))

    def _replace_missing(self) -> None:
        now = time.monotonic()
        due = [number for when, number in self._missing if when <= now]
        self._missing = [(when, number) for when, number in self._missing if when > now]
        for number in due:
            self._add_worker(number)

    def _add_worker(self, number: int) -> None:
        ours, theirs = Pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        pool = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._work(number, pool, theirs)
        theirs.close()
        added = worker.Worker(number, pid, ours)
        self._workers[ours.fileno()] = added
        self._idle.append(added)
        self._poller.register(ours.fileno(), zmq.POLLIN)

    def _work(self, number: int, pool: int, pipe: Any) -> NoReturn:
        worker.run(
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

    def _drop(self, chosen: worker.Worker) -> None:
        self._poller.unregister(chosen.pipe.fileno())
        del self._workers[chosen.pipe.fileno()]
        if chosen in self._idle:
            self._idle.remove(chosen)
        chosen.pipe.close()
        os.waitpid(chosen.pid, 0)

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


def _lost(number: int, task: int) -> bytes:
    "What Parsl's pool sends for the task of a worker that died."
    try:
        raise WorkerLost(number, platform.node())
    except WorkerLost:
        exception = serialize(RemoteExceptionWrapper(*sys.exc_info()))
    return pickle.dumps({"type": "result", "task_id": task, "exception": exception})


def _manager_arguments(chosen: Namespace) -> dict[str, Any]:
    "As the script does it."

    def number(text: Any, kind: type) -> Any:
        return None if text in (None, "None") else kind(text)

    most = chosen.max_workers_per_node
    return {
        "port": chosen.port,
        "addresses": chosen.addresses,
        "address_probe_timeout": int(chosen.address_probe_timeout),
        "uid": chosen.uid,
        "block_id": chosen.block_id,
        "cores_per_worker": float(chosen.cores_per_worker),
        "mem_per_worker": number(chosen.mem_per_worker, float),
        "max_workers_per_node": most if most == math.inf else int(most),
        "prefetch_capacity": int(chosen.prefetch_capacity),
        "heartbeat_threshold": int(chosen.hb_threshold),
        "heartbeat_period": int(chosen.hb_period),
        "drain_period": number(chosen.drain_period, int),
        "poll_period": int(chosen.poll),
        "cpu_affinity": chosen.cpu_affinity,
        "enable_mpi_mode": chosen.enable_mpi_mode,
        "mpi_launcher": chosen.mpi_launcher,
        "available_accelerators": chosen.available_accelerators,
        "cert_dir": None if chosen.cert_dir == "None" else chosen.cert_dir,
        "log_config": None,
    }
