"""Messages that RabbitMQ refuses for good: each costs its own task its result, and nobody else anything."""

import asyncio
import json
import os
import signal
import socket
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pika
import pytest
from amqp_gate import Gate
from endpoint_rig import LIMIT_S, NOBODY, Broker, Queues, Running, endpoint_name, journalled, until, value
from endpoint_tasks import double
from globus_compute_common.messagepack import pack, unpack
from globus_compute_common.messagepack.message_types import Result
from pika.channel import Channel
from rabbit_control import evaluate
from twinlock_common.amqp import envelope as envelope_module
from twinlock_common.amqp.envelope import Envelope
from twinlock_common.amqp.errors import LinkError, NotTaken, RefusedMessageError
from twinlock_common.amqp.link import Link
from twinlock_common.amqp.publisher import Publisher
from twinlock_endpoint.journal import journal
from twinlock_endpoint.journal.journal import Journal
from twinlock_endpoint.queues import results as results_module
from twinlock_endpoint.queues.results import Results
from twinlock_endpoint.task import Task

pytestmark = pytest.mark.system

THREADS = "engine: {type: ThreadPoolEngine, max_workers: 2}\nheartbeat_period: 5\n"
PROCESSES = "engine: {type: ProcessPoolEngine, max_workers: 2}\nheartbeat_period: 5\n"
BLOCKS = """
engine:
  type: GlobusComputeEngine
  max_workers_per_node: 2
  provider: {type: LocalProvider, max_blocks: 1}
heartbeat_period: 5
"""
LIMIT = 200_000
REFUSED = f"larger than configured max size {LIMIT}"


@pytest.fixture
def low(broker: Broker) -> Iterator[None]:
    """RabbitMQ takes messages of at most so many bytes from now on, on channels that are opened from now on."""
    former = evaluate(broker.state, "element(2, application:get_env(rabbit, max_message_size))").strip()
    evaluate(broker.state, f"application:set_env(rabbit, max_message_size, {LIMIT})")
    yield
    evaluate(broker.state, f"application:set_env(rabbit, max_message_size, {former})")


def repeat(size: int) -> str:
    return "x" * size


def shout(size: int) -> None:
    raise ValueError("w" * size)


@pytest.mark.usefixtures("low")
def test_a_result_that_rabbitmq_refuses_ends_its_own_task_only(
    endpoint: Callable[..., Running], queues: Queues
) -> None:
    running = endpoint(THREADS)
    before = [queues.submit(double, number) for number in range(20)]
    large = [queues.submit(repeat, LIMIT + more) for more in (1, 50_000, 1)]
    after = [queues.submit(double, number) for number in range(20)]
    assert [value(queues.result(task)) for task in before + after] == [2 * number for number in range(20)] * 2
    for task in large:
        result = queues.result(task)
        assert REFUSED in result.data
        assert "Write large data to a file" in result.data
        assert result.error_details.code == "MaxResultSizeExceeded"
    until(lambda: not journalled(running))
    assert "No connection" not in running.log(), "the task queue's channel isn't touched"
    assert value(queues.result(queues.submit(repeat, LIMIT // 2))) == "x" * (LIMIT // 2)


@pytest.mark.usefixtures("low")
def test_the_manager_endpoint_is_told(endpoint: Callable[..., Running], queues: Queues) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="endpoint-manager-", dir="/tmp") as name,
        socket.socket(socket.AF_UNIX) as listener,
    ):
        Path(name).chmod(0o755)
        listener.settimeout(LIMIT_S)
        listener.bind(f"{name}/control.sock")
        Path(f"{name}/control.sock").chmod(0o666)
        listener.listen()
        running = endpoint(THREADS, control=f"{name}/control.sock")
        accepted, _ = listener.accept()
        with accepted, accepted.makefile() as lines:
            accepted.settimeout(LIMIT_S)
            queues.submit(repeat, LIMIT + 1)
            deadline = time.monotonic() + LIMIT_S
            while json.loads(lines.readline()).get("figures", {}).get("refused_results") != 1:
                assert time.monotonic() < deadline, running.log()


@pytest.mark.cases(1)
@pytest.mark.parametrize("config", [THREADS, PROCESSES, BLOCKS])
def test_an_exception_of_140_mb(endpoint: Callable[..., Running], queues: Queues, config: str) -> None:
    endpoint(config)
    loud = queues.submit(shout, 140_000_000)
    rest = [queues.submit(double, number) for number in range(5)]
    assert [value(queues.result(task)) for task in rest] == [0, 2, 4, 6, 8]
    told = queues.result(loud).data
    assert "in shout" in told
    assert "ValueError: wwww" in told
    assert "characters left out" in told
    assert len(told) < 100_000


@pytest.mark.thorough
@pytest.mark.usefixtures("low")
async def test_an_oversized_answer_in_a_journal_from_before(
    endpoint: Callable[..., Running], queues: Queues, home: Path
) -> None:
    folder = home / ".globus_compute" / endpoint_name(queues)
    folder.mkdir(parents=True, mode=0o700)
    ids = [str(uuid.uuid4()) for _ in range(3)]
    await write_journal(folder, {task: pack(Result(task_id=task, data="y" * (LIMIT + 9))) for task in ids})
    for path in (folder.parent, folder, *folder.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    running = endpoint(THREADS)
    new = queues.submit(double, 4)
    assert value(queues.result(new)) == 8
    for task in ids:
        assert REFUSED in queues.result(task).data
    until(lambda: not journalled(running))


async def write_journal(folder: Path, answers: dict[str, bytes]) -> None:
    """The journal of an endpoint that died with these answers in it."""
    made = Journal(journal.read(folder))
    for task, answer in answers.items():
        await asyncio.wait_for(made.taken(Task(task, "f", b"\x01{}"), 1), LIMIT_S)
        await asyncio.wait_for(made.answered(task, answer), LIMIT_S)
    await made.close(LIMIT_S)


def test_an_exchange_that_is_missing_for_a_while_loses_nothing(
    endpoint: Callable[..., Running], queues: Queues, broker: Broker
) -> None:
    creds = queues.creds()
    exchange = f"{queues.endpoint_id}.late"
    creds["result_queue_info"]["queue_publish_kwargs"] |= {"exchange": exchange, "routing_key": "any"}
    running = endpoint(THREADS, amqp_creds=creds)
    queues.heartbeat()
    tasks = [queues.submit(double, number) for number in range(5)]
    until(lambda: "NOT_FOUND - no exchange" in running.log())
    # Without heartbeats, which nobody would send while results are awaited.
    with pika.BlockingConnection(pika.URLParameters(f"{broker.node.url}?heartbeat=0")) as connection:
        channel = connection.channel()
        channel.exchange_declare(exchange, "fanout", auto_delete=True)
        channel.queue_bind(queues.result_queue, exchange)
        assert [value(queues.result(task)) for task in tasks] == [0, 2, 4, 6, 8]


def test_a_property_that_rabbitmq_rejects_loses_nothing(endpoint: Callable[..., Running], queues: Queues) -> None:
    """It is a 406 as well, but one that would meet each result."""
    creds = queues.creds()
    creds["result_queue_info"]["queue_publish_kwargs"]["properties"] = {"user_id": "somebody"}
    running = endpoint(THREADS, amqp_creds=creds)
    queues.heartbeat()
    task = queues.submit(double, 21)
    until(lambda: running.log().count("user_id property") >= 2)
    running.signal(signal.SIGKILL)
    running.end()
    endpoint(THREADS)
    assert value(queues.result(task)) == 42


def test_messages_that_are_no_tasks_hold_up_nobody(endpoint: Callable[..., Running], queues: Queues) -> None:
    odd: list[dict[str, Any]] = [
        {"resource_specification": 5},
        {"resource_specification": json.dumps({"num_nodes": 2**70})},
        {"resource_specification": "[" * 100_000},
        {"result_serializers": 3},
        {"result_serializers": [{"a": ["b"]}]},
    ]
    ids = [str(uuid.uuid4()) for _ in range(80 * len(odd))]  # more than the queue sends without an acknowledgement
    for number, task in enumerate(ids):
        queues.publish(b"\x01{}", task_uuid=task, **odd[number % len(odd)])
    last = queues.submit(double, 1)
    endpoint(THREADS)
    assert value(queues.result(last)) == 2
    assert all(queues.result(task).error_details is not None for task in ids)


@pytest.fixture
def channels(monkeypatch: pytest.MonkeyPatch) -> list[Channel]:
    """The channels on which something could be published."""
    opened: list[Channel] = []
    usual = Publisher.opened

    def note(publisher: Publisher, channel: Channel) -> None:
        opened.append(channel)
        usual(publisher, channel)

    monkeypatch.setattr(Publisher, "opened", note)
    return opened


@asynccontextmanager
async def linked(url: str) -> AsyncIterator[Link]:
    """A connection."""
    link = await Link.open(url)
    try:
        yield link
    finally:
        await link.close()


def publishing(results: Results, bodies: list[bytes]) -> list[asyncio.Task[None]]:
    """Publish these results."""
    return [asyncio.create_task(results.publish(body)) for body in bodies]


def envelope(queues: Queues) -> Envelope:
    """That of results."""
    return Envelope(**queues.creds()["result_queue_info"]["queue_publish_kwargs"])


@pytest.mark.thorough
@pytest.mark.usefixtures("low")
async def test_one_of_many_in_flight(broker: Broker, queues: Queues, channels: list[Channel]) -> None:
    bodies = [b"%d" % number for number in range(60)]
    bodies[30] = b"z" * (LIMIT + 1)
    results = Results(envelope(queues))
    sent = publishing(results, bodies[:10])
    await asyncio.sleep(0)
    async with linked(broker.endpoint_url) as link, asyncio.timeout(LIMIT_S):
        results.use(link)
        sent += publishing(results, bodies[10:])
        outcomes = await asyncio.gather(*sent, return_exceptions=True)
        assert len(channels) == 3, "one for all, one for them one by one, one for the rest"
        with pytest.raises(RefusedMessageError):
            await results.publish(b"a" * (LIMIT + 1))
        await results.publish(b"last")
        assert len(channels) == 3, "what is known to be too large isn't tried again"
    refused = outcomes.pop(30)
    assert isinstance(refused, RefusedMessageError)
    assert refused.size == LIMIT + 1
    assert REFUSED in refused.words
    assert outcomes == [None] * 59
    arrived = received(broker, queues)
    assert list(dict.fromkeys(arrived)) == [*bodies[:30], *bodies[31:], b"last"], "in order"


async def test_a_result_over_which_rabbitmq_closes_the_connection(
    broker: Broker, queues: Queues, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frame that is larger than was agreed is an error of the connection."""
    monkeypatch.setattr(envelope_module, "_largest", lambda channel: sys.maxsize)
    bodies = [b"%d" % number for number in range(20)]
    bodies[10] = b"z" * 60_000
    results = Results(envelope(queues))
    sent = publishing(results, bodies)
    links = 0
    async with asyncio.timeout(LIMIT_S):
        while not all(one.done() for one in sent):
            async with linked(f"{broker.endpoint_url}?frame_max=8192") as link:
                links += 1
                results.use(link)
                rest: asyncio.Future[Any] = asyncio.gather(*sent, return_exceptions=True)
                ended: asyncio.Future[Any] = asyncio.create_task(link.closed())
                await asyncio.wait([rest, ended], return_when=asyncio.FIRST_COMPLETED)
    outcomes = await asyncio.gather(*sent, return_exceptions=True)
    assert isinstance(outcomes.pop(10), RefusedMessageError)
    assert outcomes == [None] * 19
    assert links == 3, "one for all, one for them one by one, one for the rest"
    assert list(dict.fromkeys(received(broker, queues))) == bodies[:10] + bodies[11:]


@asynccontextmanager
async def linked_for_a_while(url: str) -> AsyncIterator[tuple[Link, Gate]]:
    """A connection that can be cut."""
    async with Gate(url, sys.maxsize) as gate, linked(gate.url) as link:
        yield link, gate


async def test_results_outlast_their_connection_in_order(broker: Broker, queues: Queues) -> None:
    bodies = [b"%d" % number for number in range(40)]
    results = Results(envelope(queues))
    sent = publishing(results, bodies[:20])
    async with asyncio.timeout(LIMIT_S):
        for more in (bodies[20:30], bodies[30:]):
            async with linked_for_a_while(broker.endpoint_url) as (link, gate):
                results.use(link)
                await asyncio.sleep(0)
                gate.cut()
                await link.closed()
                sent += publishing(results, more)
        async with linked(broker.endpoint_url) as link:
            results.use(link)
            await asyncio.gather(*sent)
    assert list(dict.fromkeys(received(broker, queues))) == bodies


async def test_a_result_that_finds_no_queue_is_sent_again(
    broker: Broker, queues: Queues, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results_module, "_RETRY_S", 0.1)
    results = Results(envelope(queues))
    queues.delete_results()
    async with linked(broker.endpoint_url) as link, asyncio.timeout(LIMIT_S):
        results.use(link)
        [sent] = publishing(results, [b"a result"])
        await asyncio.sleep(0)
        with pytest.raises(NotTaken):
            await link.publish(envelope(queues), b"a sign that it came back")
        queues.declare_results()
        await sent
    assert received(broker, queues) == [b"a result"]


async def test_what_found_no_queue_is_known_from_its_equal_that_did(broker: Broker, queues: Queues) -> None:
    there, nowhere = envelope(queues), Envelope("", "nowhere")
    async with linked(broker.endpoint_url) as link, asyncio.timeout(LIMIT_S):
        for body in (b"small", b"l" * 100_000):
            sent = [link.publish(to, body) for _ in range(20) for to in (there, nowhere)]
            outcomes = await asyncio.gather(*sent, return_exceptions=True)
            assert outcomes[::2] == [None] * 20
            assert all(isinstance(lost, NotTaken) for lost in outcomes[1::2])


def received(broker: Broker, queues: Queues) -> list[bytes]:
    """What is in the result queue."""
    with pika.BlockingConnection(pika.URLParameters(str(broker.node.url))) as connection:
        channel = connection.channel()
        found = []
        while (message := channel.basic_get(queues.result_queue, auto_ack=True))[0] is not None:
            found.append(bytes(message[2]))
        return found


async def test_what_is_lost_with_its_connection_is_not_sent_again(broker: Broker, queues: Queues) -> None:
    async with linked_for_a_while(broker.endpoint_url) as (link, gate), asyncio.timeout(LIMIT_S):
        await link.publish(envelope(queues), b"first")
        gate.cut()
        await link.closed()
        with pytest.raises(LinkError):
            await link.publish(envelope(queues), b"lost")
    async with linked(broker.endpoint_url) as link, asyncio.timeout(LIMIT_S):
        await link.publish(envelope(queues), b"last")
    assert received(broker, queues) == [b"first", b"last"]


async def test_frames_are_as_small_as_rabbitmq_wants_them(broker: Broker, queues: Queues) -> None:
    sizes = [0, 8184, 8185, 60_000]
    async with linked(f"{broker.endpoint_url}?frame_max=8192") as link, asyncio.timeout(LIMIT_S):
        for size in sizes:
            await link.publish(envelope(queues), b"f" * size)
    assert [len(body) for body in received(broker, queues)] == sizes


def test_a_short_answer_reads_as_a_result() -> None:
    from twinlock_endpoint.tasks import results

    task = str(uuid.uuid4())
    result = unpack(results.refused(task, RefusedMessageError(12_345_678, "too large")))
    assert str(result.task_id) == task
    assert "12,345,678 bytes" in result.data
    assert "too large" in result.data
