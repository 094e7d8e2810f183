"""What the service publishes, and what RabbitMQ refuses of it."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pika
import pytest
import pytest_asyncio
from rabbit_control import evaluate
from twinlock_service.amqp import Amqp, AmqpDownError
from twinlock_service.publishing import MessageRefusedError
from twinlock_service.rabbitmq import private_node

pytestmark = [pytest.mark.system, pytest.mark.asyncio(loop_scope="module")]

LIMIT = 20_000


@pytest.fixture(scope="module")
def state() -> Iterator[Path]:
    """A folder that RabbitMQ can enter."""
    with tempfile.TemporaryDirectory(prefix="twl-", dir="/var/tmp", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def url(state: Path) -> AsyncIterator[str]:
    """A node that takes messages of at most `LIMIT` bytes, with a queue `there`."""
    async with private_node(state) as node:
        await asyncio.to_thread(evaluate, state, f"application:set_env(rabbit, max_message_size, {LIMIT})")
        with pika.BlockingConnection(pika.URLParameters(str(node.url))) as connection:
            connection.channel().queue_declare("there")
        yield str(node.url)


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Amqp]:
    "The service's connection."
    amqp = Amqp(url)
    running = asyncio.create_task(amqp.run({}))
    await asyncio.wait_for(amqp.connected(), 20)
    yield amqp
    running.cancel()
    await asyncio.wait([running])


def received(url: str) -> list[bytes]:
    "What is in the queue."
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        found = []
        while (message := channel.basic_get("there", auto_ack=True))[0] is not None:
            found.append(bytes(message[2]))
        return found


async def test_a_message_that_is_refused_holds_up_no_other(url: str, caplog: pytest.LogCaptureFixture) -> None:
    bodies = [b"%d" % number for number in range(40)]
    bodies[10] = bodies[20] = b"x" * (LIMIT + 1)
    async with connected(url) as amqp, asyncio.timeout(20):
        outcomes = await asyncio.gather(*(amqp.publish("", "there", body) for body in bodies), return_exceptions=True)
        assert await amqp.publish("", "there", b"x" * LIMIT)
        assert not await amqp.publish("", "nowhere", b"last")
    for refused in (outcomes.pop(20), outcomes.pop(10)):
        assert isinstance(refused, MessageRefusedError)
        assert f"{LIMIT + 1:,} bytes" in str(refused)
        assert f"configured max size {LIMIT}" in str(refused)
    assert outcomes == [True] * 38
    assert set(received(url)) == {*bodies, b"x" * LIMIT} - {b"x" * (LIMIT + 1)}
    assert "trying again" not in caplog.text, "it is the same connection all the time"


async def test_a_message_that_cant_be_encoded_leaves_the_others_their_confirms(url: str) -> None:
    async with connected(url) as amqp, asyncio.timeout(20):
        with pytest.raises(UnicodeEncodeError):
            await amqp.publish("", "there", b"x", headers={"text": "\ud800"})
        assert await amqp.publish("", "there", b"last")


async def test_a_missing_exchange_is_no_refusal_of_the_message(url: str) -> None:
    async with connected(url) as amqp, asyncio.timeout(20):
        with pytest.raises(AmqpDownError, match="NOT_FOUND"):
            await amqp.publish("nowhere", "there", b"x")
