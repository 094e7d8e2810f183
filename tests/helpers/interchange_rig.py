"""An interchange in the test's own process, round by round."""

import logging
import pickle
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import zmq
from endpoint_rig import LIMIT_S, until
from parsl.executors.high_throughput.manager_selector import RandomManagerSelector
from twinlock_endpoint.htex.interchange import Interchange

BEAT_S = 30.0
"""Seconds between two heartbeats."""


class Site:
    """An interchange in this process, and a pool that is connected to it."""

    def __init__(self, folder: Path) -> None:
        self.context = zmq.Context()
        self._questions = self.context.socket(zmq.REQ)
        port = self._questions.bind_to_random_port("tcp://127.0.0.1")
        self.interchange = Interchange(
            None,
            BEAT_S,
            client_address="127.0.0.1",
            interchange_address="127.0.0.1",
            client_ports=(1, 2, port),  # nobody listens at the first two
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
        self.pool = self.context.socket(zmq.DEALER)
        """The socket of the pool."""
        self.pool.setsockopt(zmq.IDENTITY, b"pool")
        self.pool.connect(f"tcp://127.0.0.1:{self.interchange.worker_port}")
        self.pool.send(b"here I am")
        assert self.interchange.manager_sock.recv_multipart() == [b"pool", b"here I am"]
        self.interesting: set[bytes] = set()
        """The pools to which the interchange may send tasks."""
        self.connect("pool")

    def connect(self, name: str, block: str = "0") -> None:
        """A pool of this block registers."""
        here = {"block_id": block, "tasks": [], "max_capacity": 1, "active": True, "draining": False}
        now = {"idle_since": None, "last_heartbeat": time.time()}
        self.interchange._ready_managers[name.encode()] = here | now  # noqa: SLF001 - the interchange's table of pools
        self.interesting.add(name.encode())

    def beat(self, **said: Any) -> Any:
        """The interchange's answer to a heartbeat of the pool, which says more than Parsl's."""
        self.pool.send(pickle.dumps({"type": "heartbeat", **said}))
        self.hear()
        return self._answer()

    def hear(self) -> None:
        """The interchange's round for what the pool has sent."""
        assert self.interchange.manager_sock.poll(int(LIMIT_S * 1000))
        self.interchange.socks = {self.interchange.manager_sock: zmq.POLLIN}
        self.interesting.clear()
        self.interchange.process_manager_socket_message(self.interesting, None, None)

    def _answer(self) -> Any:
        while True:
            assert self.pool.poll(int(LIMIT_S * 1000))
            message = pickle.loads(self.pool.recv())
            if not isinstance(message, list):  # of tasks
                return message

    def be_silent(self, seconds: float) -> None:
        """The pool was last heard of so long ago."""
        # This is the interchange's table of pools.
        self.interchange._ready_managers[b"pool"]["last_heartbeat"] = time.time() - seconds  # noqa: SLF001

    def go_round(self) -> None:
        """What the interchange does in each round, but taking messages."""
        self.interchange.expire_bad_managers(self.interesting, None)
        self.interchange.process_tasks_to_send(self.interesting, None)

    def ask(self, question: Any) -> Any:
        """The interchange's answer to its executor."""
        self._questions.send_pyobj(question)
        assert self.interchange.command_channel.poll(int(LIMIT_S * 1000))
        self.interchange.socks = {self.interchange.command_channel: zmq.POLLIN}
        self.interchange.process_command(None)
        return self._questions.recv_pyobj()

    def submit(self, number: int) -> None:
        """Queue a task, and send what can be sent."""
        self.queue(number)
        self.send()

    def queue(self, number: int) -> None:
        """A task comes."""
        function = {"a": (str(uuid.UUID(int=number)),)}
        task = {"task_id": number, "context": {"task_executor": function}, "buffer": b""}
        self.interchange.pending_task_queue.add((-float("inf"), -number, task))

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
        # This is the interchange's table of pools.
        return list(self.interchange._ready_managers[b"pool"]["tasks"])  # noqa: SLF001

    @property
    def takers(self) -> list[str]:
        """The pools that may get tasks."""
        # This is the interchange's table of pools.
        return [name.decode() for name, pool in self.interchange._ready_managers.items() if pool["active"]]  # noqa: SLF001

    def connect_again(self) -> "zmq.Socket[bytes]":
        """Another connection of the pool's name, which the interchange has by now."""
        monitor = self.interchange.manager_sock.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
        again = self.context.socket(zmq.DEALER)
        again.setsockopt(zmq.IDENTITY, b"pool")
        again.connect(f"tcp://127.0.0.1:{self.interchange.worker_port}")
        assert monitor.poll(int(LIMIT_S * 1000))
        self.interchange.manager_sock.disable_monitor()
        self.interchange.manager_sock.poll(0)  # ZeroMQ takes note of it
        return again

    def leave(self) -> None:
        """Disconnect the pool, and wait until that is known here."""
        self.pool.close(linger=0)
        until(lambda: not self._connected())

    def _connected(self) -> bool:
        try:
            self.interchange._send([b"pool", b""])  # noqa: SLF001 - whether ZeroMQ can route to the pool
        except zmq.ZMQError:
            return False
        return True


@contextmanager
def site(folder: Path) -> Iterator[Site]:
    """One, with its log in this folder."""
    made = Site(folder)
    try:
        yield made
    finally:
        made.interchange.zmq_context.destroy(linger=0)
        made.context.destroy(linger=0)
