"""Tasks for a pool of workers that is gone before anybody noticed: they never began, so they run elsewhere."""

import logging
import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import zmq
from endpoint_rig import Queues, Running, value
from parsl.executors.high_throughput.manager_selector import RandomManagerSelector
from slurm_rig import leave, quick, until
from twinlock_endpoint.zygote.interchange import Interchange
from twinlock_testbed.slurm import Slurm

# Nothing but the attempt to send something tells that the pool is gone: heartbeats are missed after ten minutes only.
NEVER_MISSED = "heartbeat_threshold: 600"
SHELL = f"""
engine:
  type: GlobusComputeEngine
  max_workers_per_node: 1
  {NEVER_MISSED}
  provider: {{type: LocalProvider, max_blocks: 1, worker_init: "export MINE=set"}}
"""
FORKED = SHELL.replace(', worker_init: "export MINE=set"', "")


def note(path: str) -> int:
    """Leave a trace of each run; the worker's process."""
    import os
    import pathlib

    with pathlib.Path(path).open("a") as runs:
        runs.write("x")
    return os.getpid()


def job_of_this() -> str:
    import os

    return os.environ["SLURM_JOB_ID"]


def kill_block(worker: int) -> None:
    """All processes of the block that has this worker, at once."""
    group = os.getpgid(worker)
    processes = []
    for process in psutil.process_iter():
        with suppress(ProcessLookupError):  # of anybody's, and it has ended meanwhile
            if os.getpgid(process.pid) == group:
                processes.append(process)
    os.killpg(group, signal.SIGKILL)
    assert psutil.wait_procs(processes, timeout=60)[1] == []


@pytest.mark.system
@pytest.mark.parametrize("config", [SHELL, FORKED], ids=["pool of a shell", "forked pool"])
def test_they_run_in_the_next_block(endpoint: Callable[..., Running], queues: Queues, home: Path, config: str) -> None:
    endpoint(config, environment={"TMPDIR": "/tmp"})
    first = value(queues.result(queues.submit(note, str(home / "runs"))))
    kill_block(first)
    tasks = [queues.submit(note, str(home / "runs")) for _ in range(3)]
    assert first not in [value(queues.result(task)) for task in tasks]
    assert (home / "runs").read_text() == 4 * "x", "each ran once"


class Site:
    """An interchange in this process, and a pool that is connected to it."""

    def __init__(self, folder: Path) -> None:
        self.interchange = Interchange(
            None,
            client_address="127.0.0.1",
            interchange_address="127.0.0.1",
            client_ports=(1, 2, 3),  # nobody listens there
            worker_port=None,
            worker_port_range=(20000, 60000),
            hub_address=None,
            hub_zmq_port=None,
            heartbeat_threshold=600,
            logdir=str(folder),
            logging_level=logging.INFO,
            log_config=None,
            poll_period=10,
            cert_dir=None,
            manager_selector=RandomManagerSelector(),
            run_id="run",
            _check_python_mismatch=False,
        )
        self.context = zmq.Context()
        self.pool = self.context.socket(zmq.DEALER)
        self.pool.setsockopt(zmq.IDENTITY, b"pool")
        self.pool.connect(f"tcp://127.0.0.1:{self.interchange.worker_port}")
        self.pool.send(b"here I am")
        assert self.interchange.manager_sock.recv_multipart() == [b"pool", b"here I am"]
        here = {"tasks": [], "max_capacity": 1, "active": True, "draining": False, "last_heartbeat": time.time()}
        self.interchange._ready_managers[b"pool"] = here | {"idle_since": None}

    def submit(self, number: int) -> None:
        """Queue a task, and send what can be sent."""
        function = {"a": (str(uuid.UUID(int=number)),)}
        task = {"task_id": number, "context": {"task_executor": function}, "buffer": b""}
        self.interchange.pending_task_queue.add((-float("inf"), -number, task))
        self.send()

    def send(self) -> None:
        """Send what can be sent to the pool."""
        self.interchange.process_tasks_to_send({b"pool"}, None)

    @property
    def queued(self) -> list[int]:
        """The tasks that wait."""
        return [task["task_id"] for *_, task in self.interchange.pending_task_queue]

    @property
    def sent(self) -> list[int]:
        """The tasks that count as the pool's."""
        return list(self.interchange._ready_managers[b"pool"]["tasks"])

    def leave(self) -> None:
        """Disconnect the pool, and wait until that is known here."""
        self.pool.close(linger=0)
        until(lambda: not self._connected())

    def _connected(self) -> bool:
        try:
            self.interchange._send([b"pool", b""])
        except zmq.ZMQError:
            return False
        return True


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.interchange.zmq_context.destroy(linger=0)
    made.context.destroy(linger=0)


def test_what_could_not_be_sent_is_queued_again(site: Site) -> None:
    site.leave()
    site.submit(1)
    assert (site.queued, site.sent) == ([1], [])


def test_what_was_sent_is_never_sent_again(site: Site) -> None:
    """Nor when the answer to a pool's heartbeat finds it gone."""
    site.submit(1)
    assert (site.queued, site.sent) == ([], [1])
    site.leave()
    site.interchange.manager_sock.send_multipart([b"pool", b"an answer"])
    site.send()
    assert (site.queued, site.sent) == ([], [1])


@pytest.mark.slurm
@pytest.mark.system
def test_they_run_in_the_next_job(endpoint: Callable[..., Running], queues: Queues, slurm: Slurm) -> None:
    config = quick(threshold=600)
    running = endpoint(config, environment=slurm.environment())
    first = value(queues.result(queues.submit(job_of_this)))
    slurm.run("scancel", first)
    until(lambda: not slurm.jobs())
    assert value(queues.result(queues.submit(job_of_this))) != first
    leave(running, slurm)
