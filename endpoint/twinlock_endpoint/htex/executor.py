"""Parsl's HighThroughputExecutor and MPIExecutor, changed to use no service outside and to report their failure."""

import asyncio
import logging
import math
import pickle
import re
import shlex
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zmq
from parsl.executors.high_throughput.errors import ManagerLost
from parsl.executors.high_throughput.executor import HighThroughputExecutor
from parsl.executors.high_throughput.mpi_executor import MPIExecutor as ParslMPIExecutor
from parsl.providers.base import ExecutionProvider

from twinlock_endpoint.htex import messages
from twinlock_endpoint.htex.any_folder import literal, quoted
from twinlock_endpoint.htex.jobs import advise
from twinlock_endpoint.htex.lost_workers import LostWorkers
from twinlock_endpoint.htex.programs import InterchangeProgram
from twinlock_endpoint.htex.providers import forked
from twinlock_endpoint.htex.questions import Questions
from twinlock_endpoint.htex.scaling import ScalingExecutor
from twinlock_endpoint.htex.sockets import readable
from twinlock_endpoint.htex.submitted import Submitted
from twinlock_endpoint.zygote.client import Zygote

_LOOK_MS = 50  # between two looks whether the interchange lives, while it doesn't answer or take a task
_PATHS = re.compile(r"(?<!\{)\{(cert_dir|logdir)\}(?!\})")  # in a launch command


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What an executor needs beside its arguments in the configuration, known when its endpoint starts."""

    folder: Path
    """The endpoint's folder."""

    launch_cmd: str
    """The workers' command, in which Parsl replaces names in braces."""

    on_failure: Callable[[Exception], None]
    """Called, from any thread, when it can't run tasks any more."""

    submitted: Submitted
    """The batch jobs of this endpoint and of those before it."""

    zygote: Zygote | None
    """Forks the interchange; without one it is started as a program."""

    dispatched: Path | None
    """Where a forked interchange notes what it sends to pools."""


class Executor(ScalingExecutor, HighThroughputExecutor):  # type: ignore[misc]  # Parsl ships no types
    """The executor, with a callback for its failure. Made by `from_config.make`."""

    launch_cmd: str
    """Parsl's own: the command that starts a pool, with fields for its arguments."""
    worker_port: int | None
    """Parsl's own: the interchange's port for pools; None lets it choose one."""
    lost_workers: LostWorkers
    """Explains to tasks why their workers were lost."""
    command_client: Any
    """Parsl's own: the line for questions to the interchange."""
    interchange_proc: Any
    """Parsl's own: the interchange's process."""
    _loop: asyncio.AbstractEventLoop | None = None
    _surroundings: Surroundings | None = None

    def begin(self, surroundings: Surroundings) -> None:
        """Start, in the endpoint's folder. Raise whatever Parsl raises."""
        self._surroundings = surroundings
        self.run_dir = str(surroundings.folder)
        self.launch_cmd = surroundings.launch_cmd
        self.submitted = surroundings.submitted
        if hasattr(self.provider, "submitting"):
            self.provider.submitting = surroundings.submitted.intend
        self.start()

    def set_bad_state_and_fail_all(self, exception: Exception) -> None:
        """Call our callback, then fail all tasks: whoever holds them knows the reason before their futures fail."""
        advise(exception)
        if self._surroundings is not None:
            self._surroundings.on_failure(exception)
        super().set_bad_state_and_fail_all(exception)

    def validate_resource_spec(self, resource_specification: dict[str, Any]) -> None:
        """Check the priority as well: the interchange orders tasks by it, and would end over one that is no number."""
        super().validate_resource_spec(resource_specification)
        priority = (resource_specification or {}).get("priority", 0)
        if type(priority) not in (int, float) or math.isnan(priority):
            raise ValueError(f"the resource specification's priority has to be a number, not {priority!r}")

    def start(self) -> None:
        """Start as Parsl does, with our ways to ask the interchange, to send to it and to learn of its end."""
        self._messages: dict[int, dict[str, Any]] = {}  # of the tasks that have no result yet
        super().start()
        self.command_client = Questions(self.command_client, lambda: self.interchange_proc.poll() is not None)
        self.outgoing_q.zmq_socket.setsockopt(zmq.SNDTIMEO, _LOOK_MS)
        self._put, self.outgoing_q.put = self.outgoing_q.put, self._put_while_it_lives
        threading.Thread(target=self._watch_interchange, name="interchange-watch", daemon=True).start()

    def use_provider(self, provider: ExecutionProvider) -> None:
        """Take this provider in the place of the one that the executor was made with; to be called before `start`."""
        self._provider = provider  # Parsl's property sets it only once

    def initialize_scaling(self) -> None:
        """Quote the paths in the workers' command, which may contain anything, before the first blocks start."""
        word = shlex.quote if isinstance(self.provider, forked.LocalProvider) else quoted
        paths = {"cert_dir": self.cert_dir, "logdir": self.worker_logdir}
        self.launch_cmd = _PATHS.sub(lambda found: literal(word(str(paths[found[1]]))), self.launch_cmd)
        super().initialize_scaling()

    def _start_local_interchange_process(self) -> None:
        """Start the interchange as Parsl does, with the same arguments, but from the zygote."""
        surroundings = self._surroundings
        if surroundings is None or surroundings.zygote is None:
            super()._start_local_interchange_process()
            return
        config = {
            "client_address": self.loopback_address,
            "client_ports": (self.outgoing_q.port, self.incoming_q.port, self.command_client.port),
            "interchange_address": self.address,
            "worker_port": self.worker_port,
            "worker_port_range": self.worker_port_range,
            "hub_address": None,
            "hub_zmq_port": None,
            "logdir": self.logdir,
            "heartbeat_threshold": self.heartbeat_threshold,
            "poll_period": self.poll_period,
            "logging_level": logging.DEBUG if self.worker_debug else logging.INFO,
            "cert_dir": self.cert_dir,
            "manager_selector": self.manager_selector,
            "run_id": self.run_id,
            "log_config": self.log_config,
            "_check_python_mismatch": self._check_python_mismatch,
        }
        program = InterchangeProgram(dispatched=surroundings.dispatched, beat_s=self.heartbeat_period, config=config)
        self.interchange_proc = surroundings.zygote.start(program)
        self.worker_port = self._asked_port()

    def _asked_port(self) -> int:
        """Return the port that workers connect to.

        Raise `RuntimeError` if the interchange has ended; Parsl would wait two minutes for it.
        """
        commands = self.command_client.zmq_socket
        commands.send_pyobj("WORKER_BINDS")
        while not commands.poll(_LOOK_MS):
            code = self.interchange_proc.poll()
            if code is not None:
                port = f"; is its port {self.worker_port} in use?" if self.worker_port else ""
                raise RuntimeError(f"Parsl's interchange ended with exit code {code} as it started{port}")
        return int(commands.recv_pyobj())

    def _put_while_it_lives(self, message: dict[str, Any]) -> None:
        """Send a task, unless the interchange has ended.

        ZeroMQ waits for somebody to send to, and would for ever after that; the interchange's watcher says so.
        """
        self._messages[message["task_id"]] = message
        while not (self.bad_state_is_set or self._result_queue_thread_exit.is_set()):
            with suppress(zmq.Again):
                self._put(message)
                return

    def _start_result_queue_thread(self) -> None:
        """Start nothing: Parsl's thread would compete with the loop for the interpreter; see `take_results`."""

    @property
    def takes_results(self) -> bool:
        """Whether `take_results` was called."""
        return self._loop is not None

    def take_results(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have the loop take the results as they come, from now on; to be called in the loop, before the first task."""
        self._loop = loop
        loop.add_reader(self.incoming_q.results_receiver.fileno(), self._take)

    def _take(self) -> None:
        """Take all results that are there: ZeroMQ's descriptor says nothing more of what is left."""
        results = self.incoming_q.results_receiver
        while readable(results):
            self._end_task(pickle.loads(results.recv()))  # noqa: S301 - Parsl's protocol

    def shutdown(self, timeout: float = 10.0) -> None:
        """Have the loop take no more results, and shut down as Parsl does."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed: the endpoint has ended
                self._loop.call_soon_threadsafe(self._take_no_more)
        super().shutdown(timeout)

    def _take_no_more(self) -> None:
        if self._loop is not None:
            self._loop.remove_reader(self.incoming_q.results_receiver.fileno())
            self._loop = None
            self.incoming_q.close()

    def _end_task(self, message: dict[str, Any]) -> None:
        if message["type"] == "unreachable":
            self._last_poll_time = 0.0  # the poller asks the scheduler next time
            return
        sent = self._messages.pop(message["task_id"], None)
        if message["type"] == "undelivered":
            if sent is not None:
                self._put_while_it_lives(sent)
            return
        future: Future[Any] | None = self.tasks.pop(message["task_id"], None)
        if future is None:  # the interchange gave it up before
            return
        try:
            error = messages.exception(message["exception"]) if "exception" in message else None
            result = None if error else messages.result(message["result"])
        except Exception as unreadable:
            error = unreadable
        if isinstance(error, ManagerLost):
            self.lost_workers.explain(error, future.set_exception)
        elif error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)

    def _watch_interchange(self) -> None:
        """Fail all tasks when the interchange ends: the executor would take tasks for ever and answer none."""
        status = self.interchange_proc.wait()
        if not self._result_queue_thread_exit.is_set() and not self.bad_state_is_set:
            self.set_bad_state_and_fail_all(RuntimeError(f"Parsl's interchange ended with exit code {status}"))


class MPIExecutor(Executor, ParslMPIExecutor):  # type: ignore[misc]
    """The executor for tasks that are MPI programs: a worker starts one on as many nodes of its block as it needs."""

    def validate_resource_spec(self, resource_specification: dict[str, Any]) -> None:
        """Check the number of nodes as well: a task that wants more than a block has would wait for ever."""
        super().validate_resource_spec(resource_specification)
        wanted, there = int(resource_specification.get("num_nodes", 1)), self.provider.nodes_per_block
        if not 1 <= wanted <= there:
            raise ValueError(f"the task asks for {wanted} nodes (num_nodes), and a block has {there} (nodes_per_block)")
