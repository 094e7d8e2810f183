"""Parsl's HighThroughputExecutor and MPIExecutor, made so that they ask nobody outside and tell when they break."""

import asyncio
import inspect
import logging
import math
import pickle
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any

import zmq
from parsl.executors.errors import ScalingFailed
from parsl.executors.high_throughput.errors import ManagerLost
from parsl.executors.high_throughput.executor import HighThroughputExecutor
from parsl.executors.high_throughput.mpi_executor import MPIExecutor as ParslMPIExecutor
from parsl.jobs.states import JobState, JobStatus
from parsl.providers import LocalProvider
from parsl.serialize import deserialize
from parsl.serialize.concretes import DillSerializer

from twinlock_endpoint.engines.addresses import LOOPBACK, local_addresses, require_own
from twinlock_endpoint.engines.construct import construct
from twinlock_endpoint.engines.jobs import describe, with_details
from twinlock_endpoint.engines.lost_workers import LostWorkers
from twinlock_endpoint.engines.scheduler import LastWords, is_unreachable
from twinlock_endpoint.engines.submissions import Submissions
from twinlock_endpoint.engines.submitted import Submitted
from twinlock_endpoint.zygote.client import Zygote
from twinlock_endpoint.zygote.programs import InterchangeProgram
from twinlock_endpoint.zygote.sockets import readable

log = logging.getLogger(__name__)

# Not "interchange.py" from PATH: a batch site may have another Parsl there. -P keeps the user's folder off sys.path.
INTERCHANGE = [sys.executable, "-P", "-m", "parsl.executors.high_throughput.interchange"]

_POLL_MS = 100  # how often interchange and result thread look up when nothing happens; what happens wakes them at once
_SEND_MS = 50  # between two looks whether the interchange lives, while a task can't be sent to it
_FIRST_LOOK_S = 5.0
_REMEMBERED_REFUSALS = 5
_SHOWN_REASONS = 3
_DILL = DillSerializer.identifier + b"\n"


class Executor(HighThroughputExecutor):  # type: ignore[misc]  # Parsl ships no types
    """The executor, with a callback for the moment in which it can't run tasks any more."""

    on_failure: Callable[[Exception], None] | None = None
    worker_port: int | None
    zygote: Zygote | None = None
    """Forks the interchange; without one it is started as a program."""
    begun: Path | None = None
    """Where a forked interchange notes what it sends to pools."""
    submitted: Submitted
    submissions: Submissions
    lost_workers: LostWorkers
    _loop: asyncio.AbstractEventLoop | None = None
    _last_poll_time: float

    def set_bad_state_and_fail_all(self, exception: Exception) -> None:
        "Our callback comes first: whoever holds the tasks knows the reason before their futures fail."
        if self.on_failure is not None:
            self.on_failure(exception)
        super().set_bad_state_and_fail_all(exception)

    def validate_resource_spec(self, resource_specification: dict[str, Any]) -> None:
        "With a look at the value, which the interchange orders tasks by: it would end over one that is no number."
        super().validate_resource_spec(resource_specification)
        priority = (resource_specification or {}).get("priority", 0)
        if type(priority) not in (int, float) or math.isnan(priority):
            raise ValueError(f"the resource specification's priority has to be a number, not {priority!r}")

    def start(self) -> None:
        self._asking = threading.Lock()
        self._doubtful_blocks: dict[str, str] = {}  # by the name of the job
        self._scheduler = LastWords()
        self._scheduler.listen()
        super().start()
        self.outgoing_q.zmq_socket.setsockopt(zmq.SNDTIMEO, _SEND_MS)
        self._put, self.outgoing_q.put = self.outgoing_q.put, self._put_while_it_lives
        threading.Thread(target=self._watch_interchange, name="interchange-watch", daemon=True).start()

    def _start_local_interchange_process(self) -> None:
        "As Parsl does it, with the same arguments, but from the zygote."
        if self.zygote is None:
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
        program = InterchangeProgram(title="parsl: HTEX interchange", begun=self.begun, config=config)
        self.interchange_proc = self.zygote.start(program)
        self.worker_port = self._asked_port()

    def _asked_port(self) -> int:
        "The port that workers connect to. Parsl would wait two minutes for an interchange that has ended."
        commands = self.command_client.zmq_socket
        commands.send_pyobj("WORKER_BINDS")
        while not commands.poll(_POLL_MS):
            code = self.interchange_proc.poll()
            if code is not None:
                port = f"; is its port {self.worker_port} in use?" if self.worker_port else ""
                raise RuntimeError(f"Parsl's interchange ended with exit code {code} as it started{port}")
        return int(commands.recv_pyobj())

    def _put_while_it_lives(self, message: dict[str, Any]) -> None:
        "ZeroMQ waits for somebody to send to, and would for ever when the interchange has ended; its watcher says so."
        while not (self.bad_state_is_set or self._result_queue_thread_exit.is_set()):
            with suppress(zmq.Again):
                self._put(message)
                return

    def status(self) -> dict[str, JobStatus]:
        "The state of each block's job, of which no two threads may ask at once."
        with self._asking:
            statuses = super(HighThroughputExecutor, self).status()
        connected = set(self.connected_blocks())
        return {block: _seen_by_parsl(status, block in connected) for block, status in statuses.items()}

    def condition(self) -> str:
        """What stands in the way of more workers, in words for the user; empty while nothing does."""
        waiting = [block for block, status in self._status.items() if status.state == JobState.PENDING]
        reasons = [describe(self, block, self._status[block]) for block in waiting if self._status[block].message]
        return " ".join([self.submissions.condition(), *reasons[:_SHOWN_REASONS]]).strip()

    def scale_out_facade(self, n: int) -> list[str]:
        "As many blocks as the scheduler takes; one that it refuses puts off all further ones."
        launched: list[str] = []
        while len(launched) < n and self.submissions.due():
            launched += super().scale_out_facade(1)
            self._forget_failures()
        return launched

    def _filter_scale_in_ids(self, to_kill: Sequence[Any], killed: Sequence[bool]) -> list[Any]:
        """A job that couldn't be cancelled counts as cancelled all the same, and is seen to later.

        Its workers are on hold by now: it would be a running block that takes no task.
        """
        self.submitted.unwant(job for job, gone in zip(to_kill, killed, strict=True) if not gone)
        return list(to_kill)

    def give_up_ended_blocks(self, managers: list[dict[str, Any]]) -> None:
        """Of these connected worker pools, put on hold those whose job has ended; our interchange drops them soon."""
        ended = {block for block, status in self._status.items() if status.terminal}
        for block in {manager["block_id"] for manager in managers if manager["active"]} & ended:
            log.warning("The job of block %s has ended under its worker pools", block)
            self._hold_block(block)

    def _forget_failures(self) -> None:
        "An attempt that didn't reach the scheduler is no failed block; of the refused ones the last few are enough."
        failed = [block for block, status in self._simulated_status.items() if status.state == JobState.FAILED]
        forgotten = failed[:-_REMEMBERED_REFUSALS] if self.submissions.outage is None else failed
        for block in forgotten:
            del self._simulated_status[block]
            self._status.pop(block, None)

    def _launch_block(self, block_id: str) -> Any:
        "With the scheduler's own words, should it refuse the job."
        self._scheduler.text = ""
        try:
            job_id = super()._launch_block(block_id)
        except Exception as error:
            raise self._not_launched(block_id, error) from error
        self._launched(job_id)
        return job_id

    def _launched(self, job_id: Any) -> None:
        self.submissions.accepted()
        self._look_soon()
        ended = {block for block, status in self._status.items() if status.terminal}
        self.submitted.note(self.provider, job_id, {str(self.blocks_to_job_id.get(block)) for block in ended})

    def adopt_found_jobs(self) -> None:
        """Make blocks of jobs that the scheduler took though their submission seemed to fail; their workers come."""
        for name in self.submitted.doubtful():
            found = self.provider.find(name)
            if found is None:  # it doesn't answer
                return
            for job_id in found:
                self._adopt(job_id, name)

    def _adopt(self, job_id: str, name: str) -> None:
        block_id = self._doubtful_blocks.pop(name)
        log.info("Block %s was submitted after all, as job %s", block_id, job_id)
        self.provider.adopt(job_id, name)
        self.blocks_to_job_id[block_id], self.job_ids_to_block[job_id] = job_id, block_id
        self._status[block_id] = JobStatus(JobState.PENDING)
        self.submitted.find(name)
        self._launched(job_id)

    def _look_soon(self) -> None:
        "Many a job fails at once, or waits for a reason that its user should know; Parsl would ask after a minute."
        soon = time.time() - self.status_polling_interval + _FIRST_LOOK_S
        self._last_poll_time = min(self._last_poll_time, soon)

    def _not_launched(self, block_id: str, error: Exception) -> Exception:
        said = self._scheduler.text or str(error)
        unreachable = is_unreachable(said)
        if unreachable and self.submitted.intended:
            self._doubtful_blocks[self.submitted.intended] = block_id
        self.submitted.miss(doubtful=unreachable)
        if unreachable:
            log.warning("The scheduler can't be reached: %s", said)
            self.submissions.miss(said)
        else:
            log.warning("The scheduler refused a job: %s", said)
            self.submissions.refuse(said)
        return error if said in str(error) else ScalingFailed(self, f"{error}; {said}")

    def _start_result_queue_thread(self) -> None:
        "Not Parsl's thread, which would compete with the loop for the interpreter; see `take_results`."

    @property
    def takes_results(self) -> bool:
        """Whether `take_results` was called."""
        return self._loop is not None

    def take_results(self, loop: asyncio.AbstractEventLoop) -> None:
        """From now on the loop takes the results as they come; called in the loop, before the first task."""
        self._loop = loop
        loop.add_reader(self.incoming_q.results_receiver.fileno(), self._take)

    def _take(self) -> None:
        "All that are there: ZeroMQ's descriptor says nothing more of what is left."
        results = self.incoming_q.results_receiver
        while readable(results):
            self._end_task(pickle.loads(results.recv()))  # noqa: S301 - Parsl's protocol

    def shutdown(self, timeout: float = 10.0) -> None:
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
        future: Future[Any] | None = self.tasks.pop(message["task_id"], None)
        if future is None:  # the interchange gave it up before
            return
        try:
            error = _exception(message["exception"]) if "exception" in message else None
            result = None if error else _result(message["result"])
        except Exception as unreadable:
            error = unreadable
        if isinstance(error, ManagerLost):
            self.lost_workers.explain(error, future.set_exception)
        elif error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)

    def _watch_interchange(self) -> None:
        "Without its interchange the executor would take tasks for ever and answer none."
        status = self.interchange_proc.wait()
        if not self._result_queue_thread_exit.is_set() and not self.bad_state_is_set:
            self.set_bad_state_and_fail_all(RuntimeError(f"Parsl's interchange ended with exit code {status}"))


def _exception(payload: bytes) -> BaseException:
    """With the remote traceback only: whoever raised it here would add a frame.

    From the words in such a frame the SDK concludes that its user has a problem with serialization.
    """
    error: BaseException = deserialize(payload).get_exception()
    return error


def _seen_by_parsl(status: JobStatus, connected: bool) -> JobStatus:
    """As Parsl's strategy and error handlers expect it.

    A held or suspended job is one that waits: Parsl would ask for another in its place, each time that it looks. One
    that ended before its workers came is MISSING.
    """
    if status.state == JobState.HELD:
        return _changed(status, JobState.PENDING, f"held or suspended{_because(status)}")
    if status.terminal and not connected and status.state not in (JobState.SCALED_IN, JobState.MISSING):
        return _changed(status, JobState.MISSING, f"ended before its workers connected: {with_details(status)}")
    return status


def _because(status: JobStatus) -> str:
    return f" ({status.message})" if status.message else ""


def _changed(status: JobStatus, state: JobState, message: str) -> JobStatus:
    return JobStatus(state, message, status.exit_code, status.stdout_path, status.stderr_path)


def _result(payload: bytes) -> Any:
    "Parsl has dill read everything; the bytes that `execute_task` returns are a plain pickle behind dill's identifier."
    if payload.startswith(_DILL):
        return pickle.loads(memoryview(payload)[len(_DILL) :])  # noqa: S301
    return deserialize(payload)


class MPIExecutor(Executor, ParslMPIExecutor):  # type: ignore[misc]
    """The same for tasks that are MPI programs: a worker starts one on as many nodes of its block as it asks for."""

    def validate_resource_spec(self, resource_specification: dict[str, Any]) -> None:
        "With a look at the number of nodes: a task that wants more than a block has would wait for ever."
        super().validate_resource_spec(resource_specification)
        wanted, there = int(resource_specification.get("num_nodes", 1)), self.provider.nodes_per_block
        if not 1 <= wanted <= there:
            raise ValueError(f"the task asks for {wanted} nodes (num_nodes), and a block has {there} (nodes_per_block)")


def make(kind: type[Executor], what: str, arguments: dict[str, Any]) -> Executor:
    """An executor of the engine `what` from its arguments in the configuration; `provider` and `address` are built.

    Without an address Parsl would look for one with a web service. Local workers need the loopback only; all others
    are told every address of this host, and the interchange listens on all of them.
    """
    arguments = dict(arguments)
    arguments.setdefault("provider", LocalProvider())
    arguments.setdefault("poll_period", _POLL_MS)
    anywhere = "address" not in arguments and not isinstance(arguments["provider"], LocalProvider)
    require_own(arguments.setdefault("address", LOOPBACK))
    executor = construct(what, kind, arguments)
    if "interchange_launch_cmd" not in arguments:  # an argument of another type in each of Parsl's two classes
        executor.interchange_launch_cmd = INTERCHANGE
    # Workers may bring a Python of their own (worker_init); Parsl would end the whole executor over that.
    executor._check_python_mismatch = False
    if anywhere:
        executor.address, executor.all_addresses = None, local_addresses()
    return executor


def arguments_of(kind: type[Executor]) -> frozenset[str]:
    """The names of the arguments that Parsl's class takes."""
    return frozenset(inspect.signature(kind).parameters)
