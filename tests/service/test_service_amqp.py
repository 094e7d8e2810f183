"""What the service publishes, and what RabbitMQ refuses of it."""

import asyncio
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from types import SimpleNamespace

import aiohttp
import pika
import pytest
import pytest_asyncio
from amqp_gate import Gate, no_accidents
from globus_compute_common.messagepack import pack, unpack
from globus_compute_common.messagepack.message_types import Result
from patience import SERVICE, patient
from rabbit_control import evaluate
from service_rig import ALICE, users_file
from twinlock_common.amqp.consumer import Acks, Message
from twinlock_common.amqp.errors import LinkError, RefusedMessageError
from twinlock_service.context import Context
from twinlock_service.rabbitmq.client import AmqpClient
from twinlock_service.rabbitmq.management import Management
from twinlock_service.rabbitmq.private_node import private_node
from twinlock_service.rabbitmq.topology import Topology, result_prefix
from twinlock_service.state.database import open_database
from twinlock_service.tasks import forwarding
from twinlock_service.tasks.failures import fail_outstanding
from twinlock_service.tasks.forwarding import forward
from twinlock_service.tasks.message_quota import MessageQuota
from twinlock_service.tasks.results import take_results
from twinlock_service.users.directory import load_users
from yarl import URL

pytestmark = [pytest.mark.system, pytest.mark.asyncio(loop_scope="module")]

LIMIT = 20_000
ENDPOINT = str(uuid.uuid4())


@pytest.fixture(scope="module")
def state() -> Iterator[Path]:
    """A folder that RabbitMQ can enter."""
    with tempfile.TemporaryDirectory(prefix="twl-", dir="/var/tmp", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def url(state: Path) -> AsyncIterator[str]:
    """A node that takes messages of at most `LIMIT` bytes, with a queue `there`."""
    with patient(SERVICE):
        async with private_node(state) as node:
            await asyncio.to_thread(evaluate, state, f"application:set_env(rabbit, max_message_size, {LIMIT})")
            declare(str(node.url), "there")
            yield str(node.url)


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[AmqpClient]:
    """The service's connection."""
    amqp = AmqpClient(url)
    running = asyncio.create_task(amqp.run({}))
    await asyncio.wait_for(amqp.connected(), 180)
    yield amqp
    running.cancel()
    await asyncio.wait([running])


@asynccontextmanager
async def context_at(url: str, folder: Path) -> AsyncIterator[Context]:
    """A service's parts, with this RabbitMQ."""
    with closing(open_database(folder / "service.sqlite")) as db:
        async with connected(url) as amqp, aiohttp.ClientSession() as session:
            topology = Topology(Management(session, URL(url).with_scheme("http"), "/"), URL(url))
            yield Context(db, load_users(users_file(folder / "users.yaml")), topology, amqp)


def finished(context: Context, url: str, bodies: list[str]) -> tuple[str, list[str]]:
    """A group of Alice's with a queue for its results, and its tasks, which ended with these."""
    group = context.tasks.new_group(ALICE)
    declare(url, result_prefix(ALICE) + group)
    tasks = [context.tasks.add(group, ALICE, str(uuid.uuid4()), str(uuid.uuid4())) for _ in bodies]
    for task, body in zip(tasks, bodies, strict=True):
        context.tasks.finish(task, "success", pack(Result(task_id=task, data=body)))
    return group, tasks


@asynccontextmanager
async def forwarded(context: Context, url: str) -> AsyncIterator[None]:
    """The service's work in the background, which has come to rest."""
    finished(context, url, ["one"])
    offering = asyncio.create_task(forwarding.forward_backlog(context))
    await until_all_are_offered(context)
    async with context.forwarding:
        yield
    await until_all_are_offered(context)
    offering.cancel()
    await asyncio.wait([offering])


async def until_all_are_offered(context: Context) -> None:
    """Wait until no result waits."""
    while context.tasks.unforwarded(9):
        await asyncio.sleep(0.01)


def result_of(task: str) -> Message:
    """The message of the endpoint `ENDPOINT` with a task's result."""
    return Message(Acks(SimpleNamespace()), 1, pack(Result(task_id=task, data="x")), exchange=f"ep.{ENDPOINT}")


def declare(url: str, queue: str) -> None:
    """Make a queue."""
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        connection.channel().queue_declare(queue)


def received(url: str, queue: str = "there") -> list[bytes]:
    """What is in the queue."""
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        found = []
        while (message := channel.basic_get(queue, auto_ack=True))[0] is not None:
            found.append(bytes(message[2]))
        return found


@pytest.mark.thorough
async def test_a_message_that_is_refused_holds_up_no_other(url: str, caplog: pytest.LogCaptureFixture) -> None:
    bodies = [b"%d" % number for number in range(40)]
    bodies[10] = bodies[20] = b"x" * (LIMIT + 1)
    async with connected(url) as amqp, asyncio.timeout(180):
        outcomes = await asyncio.gather(*(amqp.publish("", "there", body) for body in bodies), return_exceptions=True)
        assert await amqp.publish("", "there", b"x" * LIMIT)
        assert not await amqp.publish("", "nowhere", b"last")
    for refused in (outcomes.pop(20), outcomes.pop(10)):
        assert isinstance(refused, RefusedMessageError)
        assert f"{LIMIT + 1:,} bytes" in str(refused)
        assert f"configured max size {LIMIT}" in str(refused)
    assert outcomes == [True] * 38
    assert set(received(url)) == {*bodies, b"x" * LIMIT} - {b"x" * (LIMIT + 1)}
    assert "connecting again" not in caplog.text, "it is the same connection all the time"


@pytest.mark.thorough
async def test_a_result_that_is_refused_is_forwarded_as_an_error(url: str, tmp_path: Path) -> None:
    bodies = ["one", "x" * LIMIT, "two"]
    async with context_at(url, tmp_path) as context, asyncio.timeout(180):
        group, tasks = finished(context, url, bodies)
        await forward(context)
        assert context.tasks.unforwarded(9) == []
    found = {str(result.task_id): result for result in map(unpack, received(url, result_prefix(ALICE) + group))}
    assert [found[task].data for task in (tasks[0], tasks[2])] == ["one", "two"]
    assert f"configured max size {LIMIT}" in found[tasks[1]].data
    assert found[tasks[1]].error_details is not None


async def test_results_are_offered_after_a_disk_took_nothing_for_a_while(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(forwarding, "FAILURE_SECONDS", 0.05)
    async with context_at(url, tmp_path) as context, asyncio.timeout(180):
        group, [task] = finished(context, url, ["one"])
        context.db.execute("PRAGMA query_only = ON")
        offering = asyncio.create_task(forwarding.forward_backlog(context))
        while "results could not be offered" not in caplog.text:
            await asyncio.sleep(0.01)
        context.db.execute("PRAGMA query_only = OFF")
        await until_all_are_offered(context)
        offering.cancel()
        await asyncio.wait([offering])
    assert {str(unpack(body).task_id) for body in received(url, result_prefix(ALICE) + group)} == {task}


async def test_a_result_whose_offer_is_broken_off_is_offered_later(url: str, tmp_path: Path) -> None:
    """As when the connection ends meanwhile: the message comes again, and its result is no new one."""
    async with context_at(url, tmp_path) as context, asyncio.timeout(180):
        task = context.tasks.add(context.tasks.new_group(ALICE), ALICE, ENDPOINT, str(uuid.uuid4()))
        async with forwarded(context, url):
            taking = asyncio.create_task(take_results(context, MessageQuota(), [result_of(task)]))
            while context.tasks.unforwarded(9) != [task]:
                await asyncio.sleep(0.01)
            taking.cancel()
            await asyncio.wait([taking])


async def test_failures_are_offered_even_if_what_caused_them_is_broken_off(url: str, tmp_path: Path) -> None:
    async with context_at(url, tmp_path) as context, asyncio.timeout(180):
        context.tasks.add(context.tasks.new_group(ALICE), ALICE, ENDPOINT, str(uuid.uuid4()))
        async with forwarded(context, url):
            assert await fail_outstanding(context, ENDPOINT, "it was deleted") == 1


async def test_a_message_that_cant_be_encoded_leaves_the_others_their_confirms(url: str) -> None:
    async with connected(url) as amqp, asyncio.timeout(180):
        with pytest.raises(UnicodeEncodeError):
            await amqp.publish("", "there", b"x", headers={"text": "\ud800"})
        assert await amqp.publish("", "there", b"last")


async def test_a_missing_exchange_is_no_refusal_of_the_message(url: str) -> None:
    async with connected(url) as amqp, asyncio.timeout(180):
        with pytest.raises(LinkError, match="NOT_FOUND"):
            await amqp.publish("nowhere", "there", b"x")


@pytest.mark.cases(2)
@pytest.mark.parametrize("frames", range(5), ids=["nothing", "Start", "Tune", "Open-Ok", "channel"])
async def test_a_connection_that_isnt_wanted_any_more_while_it_is_opened(url: str, frames: int) -> None:
    async with no_accidents(), Gate(url, frames) as gate, asyncio.timeout(180):
        running = asyncio.create_task(AmqpClient(gate.url).run({}))
        await gate.reached.wait()
        running.cancel()
        await asyncio.wait([running])
        gate.release()
        await gate.gone.wait()


@pytest.mark.cases(2)
@pytest.mark.parametrize("frames", range(5), ids=["nothing", "Start", "Tune", "Open-Ok", "channel"])
async def test_a_connection_that_is_cut_while_it_is_opened_is_made_again(url: str, frames: int) -> None:
    async with no_accidents(), Gate(url, frames) as gate, asyncio.timeout(180):
        amqp = AmqpClient(gate.url)
        running = asyncio.create_task(amqp.run({}))
        await gate.reached.wait()
        gate.cut()
        gate.release()
        await amqp.connected()
        running.cancel()
        await asyncio.wait([running])
