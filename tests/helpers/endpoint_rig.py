"""An endpoint as a test runs it: queues of its own, a process as an unprivileged user, a folder as its home."""

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pika
import psutil
from globus_compute_common.messagepack import pack, unpack
from globus_compute_common.messagepack.message_types import Task
from globus_compute_sdk.serialize import ComputeSerializer, PureSourceTextInspect
from twinlock_endpoint.journal.recovery import Reader
from twinlock_service.rabbitmq.management import Management
from twinlock_service.rabbitmq.node_files import VHOST
from twinlock_service.rabbitmq.private_node import Node
from twinlock_testbed.processes import title

NOBODY = 65534
PROGRAM = Path(sys.executable).with_name("twinlock-endpoint")
REAPER = Path(__file__).with_name("endpoint_reaper.py")


def task_body(task_id: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> bytes:
    """A packed task as the service sends it, serialized as the SDK does."""
    serializer = ComputeSerializer(strategy_code=PureSourceTextInspect())
    buffers = serializer.pack_buffers([serializer.serialize(part) for part in (function, args, kwargs)])
    packed: bytes = pack(Task(task_id=task_id, task_buffer=buffers))
    return packed


LIMIT_S = 180.0
"""Seconds for anything to happen, on a machine that is busy with other tests."""


def until(condition: Callable[[], object], limit_s: float = LIMIT_S) -> None:
    """Wait until the condition holds."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {limit_s} s"
        time.sleep(0.01)


def value(result: Any) -> Any:
    """What the function returned."""
    assert result.error_details is None, result.data
    return ComputeSerializer().deserialize(result.data)


@dataclass(frozen=True)
class Broker:
    """The node, and the login of the one user that all endpoints under test have."""

    node: Node
    """The RabbitMQ node."""
    user: str
    """The RabbitMQ user that all endpoints under test log in as."""
    password: str
    """That user's."""
    state: Path
    """The node's state folder."""

    @property
    def endpoint_url(self) -> str:
        """What an endpoint connects to."""
        return str(self.node.url.with_user(self.user).with_password(self.password))

    async def disconnect(self) -> None:
        """Cut the endpoints' connections."""
        async with aiohttp.ClientSession() as session:
            await Management(session, self.node.management_url, VHOST).disconnect(self.user)


class Queues:
    """Task, result and heartbeat queue of one endpoint, seen from the service's side."""

    def __init__(self, admin_url: str, endpoint_url: str) -> None:
        self.endpoint_id = str(uuid.uuid4())
        """The uuid of the endpoint."""
        self._url = endpoint_url
        self._admin_url = admin_url
        self.reconnect()
        self.results: dict[str, Any] = {}
        """The results that were read so far, by task."""
        self.raw: dict[str, bytes] = {}
        """The same, packed as they came."""
        for queue in (self.task_queue, self.result_queue, self.heartbeat_queue):
            self._channel.queue_declare(queue, durable=True)

    def reconnect(self) -> None:
        """Connect anew, after RabbitMQ was away. It answers on its management port a moment before it does here.

        Without heartbeats: nobody sends them while a test waits for something else.
        """
        url = f"{self._admin_url}?connection_attempts=240&retry_delay=0.5&heartbeat=0"
        self._connection = pika.BlockingConnection(pika.URLParameters(url))
        self._channel = self._connection.channel()

    def close(self) -> None:
        """Remove the queues."""
        for queue in (self.task_queue, self.result_queue, self.heartbeat_queue):
            self._channel.queue_delete(queue)
        self._connection.close()

    @property
    def task_queue(self) -> str:
        return f"{self.endpoint_id}.tasks"

    @property
    def result_queue(self) -> str:
        return f"{self.endpoint_id}.results"

    @property
    def heartbeat_queue(self) -> str:
        return f"{self.endpoint_id}.heartbeats"

    def creds(self) -> dict[str, Any]:
        """`amqp_creds` of the start document."""
        return {
            "endpoint_id": self.endpoint_id,
            "task_queue_info": {"connection_url": self._url, "queue": self.task_queue},
            "result_queue_info": self._destination(self.result_queue),
            "heartbeat_queue_info": self._destination(self.heartbeat_queue),
        }

    def _destination(self, queue: str) -> dict[str, Any]:
        publish = {"exchange": "", "routing_key": queue, "mandatory": True, "properties": {"delivery_mode": 2}}
        return {"connection_url": self._url, "queue": queue, "exchange": "", "queue_publish_kwargs": publish}

    def submit(
        self, function: Callable[..., Any], *args: Any, resource_specification: str | None = None, **kwargs: Any
    ) -> str:
        """Publish a task; its id."""
        task_id = str(uuid.uuid4())
        body = task_body(task_id, function, *args, **kwargs)
        self.publish(body, task_uuid=task_id, resource_specification=resource_specification)
        return task_id

    def publish(self, body: bytes, **headers: Any) -> None:
        """Publish a message to the task queue."""
        headers = {"function_uuid": str(uuid.uuid4()), **headers}
        headers = {name: value for name, value in headers.items() if value is not None}
        properties = pika.BasicProperties(headers=headers, delivery_mode=2)
        self._channel.basic_publish("", self.task_queue, body, properties)

    def result(self, task_id: str, limit_s: float = LIMIT_S) -> Any:
        """The result of a task. It may come twice, where the confirm of the first was lost, but never differently."""
        for body in self._messages(self.result_queue, limit_s, lambda: task_id not in self.results):
            result = unpack(body)
            assert self.raw.setdefault(str(result.task_id), body) == body, "a second result for the same task"
            self.results[str(result.task_id)] = result
        return self.results[task_id]

    def heartbeat(self, limit_s: float = LIMIT_S, *, last: bool = False) -> dict[str, Any]:
        """The next heartbeat's state; with `last` the one that says that the endpoint shuts down."""
        for body in self._messages(self.heartbeat_queue, limit_s, lambda: True):
            state: dict[str, Any] = unpack(body).global_state
            if not last or state["heartbeat_period"] == 0:
                return state
        raise AssertionError("unreachable")

    def figures(self) -> dict[str, Any]:
        """The state in the next heartbeat that has the engine's figures: one that is slow to tell them delays none."""
        while "engine_type" not in (state := self.heartbeat()):
            continue
        return state

    def waiting_tasks(self) -> int:
        """Tasks in the queue that nobody holds."""
        return int(self._channel.queue_declare(self.task_queue, passive=True).method.message_count)

    def waiting_results(self) -> int:
        """Results in the queue that nobody has read."""
        return int(self._channel.queue_declare(self.result_queue, passive=True).method.message_count)

    def consumers(self) -> int:
        """Consumers of the task queue."""
        return int(self._channel.queue_declare(self.task_queue, passive=True).method.consumer_count)

    def delete_results(self) -> None:
        """Take the result queue away."""
        self._channel.queue_delete(self.result_queue)

    def declare_results(self) -> None:
        """Bring the result queue back."""
        self._channel.queue_declare(self.result_queue, durable=True)

    def _messages(self, queue: str, limit_s: float, wanted: Callable[[], bool]) -> Any:
        deadline = time.monotonic() + limit_s
        try:
            while wanted():
                left = deadline - time.monotonic()
                assert left > 0, f"nothing (more) on {queue} within {limit_s} s"
                method, _, body = next(self._channel.consume(queue, auto_ack=False, inactivity_timeout=left))
                if method is not None:
                    self._channel.basic_ack(method.delivery_tag)
                    yield body
        finally:
            self._channel.cancel()


class AgentQueues(Queues):
    """Queues of the official agent, with an exchange of their own.

    It declares the exchange passively, which nobody may do with the default one.
    """

    def __init__(self, admin_url: str, endpoint_url: str) -> None:
        super().__init__(admin_url, endpoint_url)
        self._channel.exchange_declare(self.endpoint_id, "direct", durable=True)
        for queue in (self.result_queue, self.heartbeat_queue):
            self._channel.queue_bind(queue, self.endpoint_id, queue)

    def close(self) -> None:
        self._channel.exchange_delete(self.endpoint_id)
        super().close()

    def _destination(self, queue: str) -> dict[str, Any]:
        made = super()._destination(queue)
        made["exchange"] = made["queue_publish_kwargs"]["exchange"] = self.endpoint_id
        return made


@dataclass(frozen=True)
class End:
    """How an endpoint ended."""

    code: int
    """Its exit code, negative for a signal."""
    left: list[str]
    """The command lines of processes that it left behind."""
    said: str
    """What it said to the manager endpoint on standard output and error."""


@dataclass
class Running:
    """One endpoint process."""

    queues: Queues
    home: Path
    """The user's home."""
    process: subprocess.Popen[bytes]
    """The parent of the endpoint, which waits for its end."""
    pid: int
    """The endpoint itself."""
    report: int
    """The pipe in which the parent says how the endpoint ended."""
    itself: psutil.Process | None
    """None for one that had ended before anybody could look."""
    started: float = field(default_factory=time.monotonic)
    """By the monotonic clock, in seconds."""

    @property
    def name(self) -> str:
        return endpoint_name(self.queues)

    @property
    def folder(self) -> Path:
        return self.home / ".globus_compute" / self.name

    def log(self) -> str:
        """The endpoint's log so far; nothing where there is none yet."""
        with suppress(FileNotFoundError):
            return (self.folder / "endpoint.log").read_text()
        return ""

    def parts(self, words: str) -> list[psutil.Process]:
        """The endpoint's descendants with these words in their titles."""
        return [child for child in psutil.Process(self.pid).children(recursive=True) if words in title(child)]

    def signal(self, number: int = signal.SIGTERM) -> None:
        """Signal the endpoint itself. NoSuchProcess where it has ended: its number may be another process's then."""
        if self.itself is None:
            raise psutil.NoSuchProcess(self.pid)
        self.itself.send_signal(number)

    def end(self, limit_s: float = LIMIT_S) -> End:
        """Wait until it has ended."""
        line = _line(self.report, limit_s)
        assert self.process.stdout is not None
        said = self.process.stdout.read().decode()
        self.process.wait(limit_s)
        return End(line["code"], line["left"], said)


@contextmanager
def limited(pid: int, limit: str, to: int) -> Iterator[None]:
    """One of the endpoint's processes with another soft limit, of those that prlimit(1) knows."""
    former = _prlimit(pid, f"--{limit}", "--output=SOFT", "--noheadings", "--raw").strip()
    _prlimit(pid, f"--{limit}={to}:")
    yield
    _prlimit(pid, f"--{limit}={former}:")


def _prlimit(pid: int, *options: str) -> str:
    """What prlimit(1) prints; it runs as the process's user, who needs no capability for that."""
    command = ["prlimit", f"--pid={pid}", *options]
    done = subprocess.run(
        command, user=NOBODY, group=NOBODY, extra_groups=[], stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout


def journalled(running: Running) -> set[str]:
    """The tasks that the journal still has."""
    reader = Reader(running.folder / "journal")
    reader.read(None)
    return set(reader.unfinished)


def endpoint_name(queues: Queues) -> str:
    """The name under which the spawner starts it."""
    return f"uep.{uuid.UUID(int=1)}.{queues.endpoint_id}"


def start(
    home: Path, queues: Queues, config: str, *, program: Path = PROGRAM, fds: Sequence[int] = (), **document: Any
) -> Running:
    """Start an endpoint as `nobody` with that home, which inherits these file descriptors."""
    told = {"amqp_creds": queues.creds(), "config": config, "ep_info": {"posix_ppid": os.getpid()}, **document}
    return run(home, queues, json.dumps(told).encode(), endpoint_name(queues), program=program, fds=fds)


def run(
    home: Path, queues: Queues, document: bytes, *arguments: str, program: Path = PROGRAM, fds: Sequence[int] = ()
) -> Running:
    """Start the program as `nobody` with these bytes on its standard input."""
    reading, writing = os.pipe()
    path = "/usr/local/bin:/usr/bin:/bin"
    if program != PROGRAM:  # the agent's endpoint looks for its own programs there
        path = f"{program.parent}:{path}"
    # TMPDIR: Parsl's worker pools leave a folder there when their block is cancelled.
    environment = {"HOME": str(home), "TMPDIR": str(home), "USER": "nobody", "LANG": "C.UTF-8"}
    drop = [shutil.which("setpriv") or "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    # Its text and not its path: nobody may not get into the folder that this file is in.
    command = [sys.executable, "-c", REAPER.read_text(), str(writing), str(program), *arguments]
    process = subprocess.Popen(
        [*drop, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=[writing, *fds],
        cwd=home if home.is_dir() else "/",
        env={**environment, "PATH": path},
    )
    os.close(writing)
    assert process.stdin is not None
    with suppress(BrokenPipeError):  # it ended without reading
        process.stdin.write(document)
        process.stdin.close()
    pid = _line(reading, LIMIT_S)["pid"]
    return Running(queues, home, process, pid, reading, _process(pid))


def _process(pid: int) -> psutil.Process | None:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid)
    return None


def _line(descriptor: int, limit_s: float) -> dict[str, Any]:
    """A pipe's next line; each is written at once and is short."""
    ready, _, _ = select.select([descriptor], [], [], limit_s)
    assert ready, f"no word from the endpoint's parent within {limit_s} s"
    text = b""
    while not text.endswith(b"\n"):  # byte by byte: the next line may be there as well
        byte = os.read(descriptor, 1)
        assert byte, f"the endpoint's reaper ended after {text!r}"
        text += byte
    line: dict[str, Any] = json.loads(text)
    return line
