"""RabbitMQ's part: its time limit for acknowledgements, restarts, and silence; under load, and with a busy engine."""

import asyncio
import signal
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pika
import pytest
import pytest_asyncio
from amqp_gate import Gate, no_accidents
from endpoint_rig import LIMIT_S, Broker, Queues, Running, until, value
from endpoint_tasks import note, wait_for
from network import Network
from pika.exceptions import ChannelClosedByBroker
from rabbit_control import evaluate, restart
from twinlock_common.amqp import link as link_module
from twinlock_common.amqp.consumer import Message
from twinlock_common.amqp.errors import LinkError
from twinlock_common.amqp.link import Link
from twinlock_common.amqp.reconnector import Reconnector
from twinlock_endpoint.journal import journal
from twinlock_endpoint.journal.journal import Journal
from twinlock_endpoint.journal.recovery import Reader
from twinlock_endpoint.queues.consumer import TaskConsumer
from twinlock_endpoint.task import Task
from twinlock_endpoint.tasks.entry import Entry
from twinlock_endpoint.tasks.ledger import Events, Ledger
from twinlock_endpoint.tasks.window import Window

pytestmark = pytest.mark.system

THREADS = "engine: {type: ThreadPoolEngine, max_workers: 1}\nheartbeat_period: 5\n"


def double(number: int) -> int:
    return 2 * number


def use_up_all_files(marker: str) -> None:
    """No more can be opened in this process until the marker is there."""
    import os
    import resource
    import threading
    import time

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))

    def give_back() -> None:
        while not os.path.exists(marker):
            time.sleep(0.1)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)

    threading.Thread(target=give_back, daemon=True).start()


@pytest.fixture
def impatient(broker: Broker) -> Iterator[None]:
    """RabbitMQ closes channels on which a delivery waits for half a minute, not for half an hour.

    Those that are opened from now on. A process that is busy may leave a delivery unacknowledged for some seconds.
    """
    limit = "application:set_env(rabbit, consumer_timeout, {}), application:set_env(rabbit, channel_tick_interval, {})"
    evaluate(broker.state, limit.format(30_000, 500))
    yield
    evaluate(broker.state, limit.format(1800000, 60000))


def until_a_channel_is_closed(broker: Broker) -> None:
    """Hold a delivery until RabbitMQ has enough of that; so it would have of any other that is as old."""
    with pika.BlockingConnection(pika.URLParameters(str(broker.node.url))) as connection:
        channel = connection.channel()
        queue = channel.queue_declare("", exclusive=True).method.queue
        channel.basic_publish("", queue, b"x")
        with pytest.raises(ChannelClosedByBroker, match="PRECONDITION_FAILED"):
            for _ in channel.consume(queue):
                pass


@pytest.mark.thorough
def test_a_task_may_run_for_longer_than_rabbitmq_waits_for_acknowledgements(
    endpoint: Callable[..., Running], queues: Queues, broker: Broker, home: Path, impatient: None
) -> None:
    running = endpoint(THREADS)
    go = home / "go"
    task = queues.submit(wait_for, str(go))
    until(lambda: Path(f"{go}.runs").exists())
    until_a_channel_is_closed(broker)
    go.touch()
    assert value(queues.result(task)) == "done"
    assert "PRECONDITION_FAILED" not in running.log()
    assert Path(f"{go}.runs").read_text() == "x"


@pytest.mark.thorough
def test_rabbitmq_is_restarted_under_load(
    endpoint: Callable[..., Running], queues: Queues, broker: Broker, home: Path
) -> None:
    tasks = [queues.submit(note, str(home / "runs"), number) for number in range(300)]
    running = endpoint(THREADS)
    queues.result(tasks[50])
    restart(broker.state)
    queues.reconnect()
    assert [value(queues.result(task)) for task in tasks] == list(range(300))
    assert sorted(map(int, (home / "runs").read_text().split())) == list(range(300))
    until(lambda: "No connection to RabbitMQ" in running.log())


@pytest.mark.thorough
def test_while_rabbitmq_is_silent_results_wait_on_disk(
    endpoint: Callable[..., Running], queues: Queues, broker: Broker, home: Path
) -> None:
    running = endpoint(THREADS)
    go = home / "go"
    task = queues.submit(wait_for, str(go))
    until(lambda: Path(f"{go}.runs").exists())
    broker.node.server.signal(signal.SIGSTOP)
    try:
        go.touch()
        until(lambda: kept(running, task))
    finally:
        broker.node.server.signal(signal.SIGCONT)
    assert value(queues.result(task)) == "done"
    until(lambda: not kept(running, task))
    assert Path(f"{go}.runs").read_text() == "x"


@pytest.mark.thorough
def test_a_network_that_is_cut_under_load(
    endpoint: Callable[..., Running], queues: Queues, broker: Broker, home: Path
) -> None:
    """Nobody is told, so the endpoint gives its connection up by itself; what it does meanwhile waits on disk."""
    go, runs = home / "go", home / "runs"
    with Network(int(broker.node.url.port or 0)) as network:
        running = endpoint(THREADS + f"heartbeat_threshold: 10\namqp_port: {network.port}\n")
        before = [queues.submit(note, str(runs), number) for number in range(50)]
        gate = queues.submit(wait_for, str(go))
        after = [queues.submit(note, str(runs), number) for number in range(50, 300)]
        until(lambda: Path(f"{go}.runs").exists())
        network.cut()
        go.touch()
        until(lambda: "No activity or too many missed heartbeats" in running.log())  # of 10 s, as the node asks for
        until(lambda: kept(running, gate))
        network.mend()
        assert value(queues.result(gate)) == "done"
        assert [value(queues.result(task)) for task in before + after] == list(range(300))
    assert sorted(map(int, runs.read_text().split())) == list(range(300))
    until(lambda: not queues.waiting_tasks())


@pytest.mark.thorough
async def test_a_connection_that_could_not_be_tried_for_want_of_a_file(
    endpoint: Callable[..., Running], queues: Queues, broker: Broker, home: Path
) -> None:
    """A function may open as many as it wants, in this process too: pika doesn't tell, so the attempt has a limit."""
    running = endpoint(THREADS)
    enough = home / "enough"
    value(queues.result(queues.submit(use_up_all_files, str(enough))))
    await broker.disconnect()
    await asyncio.to_thread(until, lambda: "[Errno 24] Too many open files" in running.log())
    enough.touch()
    assert value(await asyncio.to_thread(queues.result, queues.submit(double, 3))) == 6


@pytest.mark.parametrize("frames", range(3), ids=["nothing", "Start", "Tune"])
async def test_an_attempt_to_connect_that_is_given_up_amid_the_handshake(
    broker: Broker, frames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_s = 0.5
    monkeypatch.setattr(link_module, "OPEN_LIMIT", limit_s)
    while not await given_up(broker, frames):  # RabbitMQ may need longer to get there
        limit_s *= 4
        monkeypatch.setattr(link_module, "OPEN_LIMIT", limit_s)


async def given_up(broker: Broker, frames: int) -> bool:
    """Whether the handshake had got that far when the attempt was given up."""
    async with no_accidents(), Gate(broker.endpoint_url, frames) as gate, asyncio.timeout(LIMIT_S):
        with pytest.raises(LinkError, match="no connection within"):
            await Link.open(gate.url)
        if gate.reached.is_set():
            gate.release()
            await gate.gone.wait()
        return gate.reached.is_set()


@asynccontextmanager
async def connected(
    url: str, use: Callable[[Link], Coroutine[Any, Any, None]], lost: Callable[[], None] = lambda: None
) -> AsyncIterator[None]:
    """A connection that comes back."""

    async def note(error: LinkError, delay: float) -> None:
        lost()

    connection = Reconnector(lambda: Link.open(url), use, note)
    running = asyncio.create_task(connection.run())
    try:
        yield
    finally:
        running.cancel()
        await asyncio.wait([running])
        await connection.close()


@pytest.mark.parametrize("frames", range(5), ids=["nothing", "Start", "Tune", "Open-Ok", "channel"])
async def test_a_connection_that_is_cut_amid_the_handshake_is_made_again(broker: Broker, frames: int) -> None:
    there, down = asyncio.Event(), asyncio.Event()

    async def use(_link: Link) -> None:
        there.set()

    async with (
        no_accidents(),
        Gate(broker.endpoint_url, frames) as gate,
        asyncio.timeout(LIMIT_S),
        connected(gate.url, use, down.set),
    ):
        await gate.reached.wait()
        assert not there.is_set()
        gate.cut()
        gate.release()
        await down.wait()
        await there.wait()


def kept(running: Running, task: str) -> bool:
    """Whether the journal has the task's result."""
    reader = Reader(running.folder / "journal")
    reader.read(None)
    return task in reader.unfinished and reader.unfinished[task].result is not None


class Desk:
    """A window of four tasks on a real queue, without patience; the test answers them."""

    def __init__(self, queues: Queues, folder: Path) -> None:
        self.taken: list[str] = []
        self.storing: set[asyncio.Task[None]] = set()
        self.journal = Journal(journal.read(folder))
        self.consumer = TaskConsumer(queues.task_queue, 6, self._deliver, lambda: None, lambda: self.window.lost())
        self.entries: dict[str, Entry] = {}
        events = Events(room=lambda: self.window.pump())
        self.ledger = Ledger(self.journal, self._publish, 6, events)
        self.window = Window(self.consumer, self.ledger, 4, self._take, held_s=0.2)

    async def number(self, tasks: int) -> None:
        """Wait until so many were taken."""
        async with asyncio.timeout(LIMIT_S):
            while len(self.taken) < tasks:
                await asyncio.sleep(0.01)

    def _deliver(self, delivery: Message) -> None:
        self.window.offer(str(delivery.properties.headers["task_uuid"]), delivery)

    def _take(self, task_id: str, delivery: Message) -> None:
        self.entries[task_id] = self.ledger.enter(task_id, delivery)
        self.storing.add(asyncio.create_task(self._store(task_id, delivery)))

    async def _store(self, task_id: str, delivery: Message) -> None:
        await self.ledger.store(self.entries[task_id], Task(task_id, "f", delivery.body), 1)
        self.taken.append(task_id)

    def _publish(self, body: bytes) -> asyncio.Future[None]:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done


@pytest_asyncio.fixture
async def desk(broker: Broker, queues: Queues, tmp_path: Path) -> AsyncIterator[Desk]:
    """A desk that takes tasks."""
    made = Desk(queues, tmp_path)
    made.consumer.begin()
    async with connected(broker.endpoint_url, made.consumer.use):
        yield made
    await made.journal.close(LIMIT_S)


async def test_what_a_busy_engine_doesnt_need_goes_back_to_the_queue(desk: Desk, queues: Queues) -> None:
    tasks = [str(uuid.uuid4()) for _ in range(12)]
    for task in tasks:
        queues.publish(b"\x01{}", task_uuid=task)
    await desk.number(4)
    async with asyncio.timeout(LIMIT_S):
        while queues.waiting_tasks() < 8:  # the six that were delivered beyond the four, and two that never were
            await asyncio.sleep(0.05)
    for number, task in enumerate(tasks, start=5):
        assert len(desk.taken) == min(number - 1, 12), "no more than there is room for"
        await desk.ledger.settle(desk.entries[task], b"result")
        await desk.number(min(number, 12))
    assert sorted(desk.taken) == sorted(tasks), "each once"
    until(lambda: not queues.waiting_tasks())
