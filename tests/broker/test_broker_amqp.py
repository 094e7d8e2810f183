"""The AMQP parts against a private RabbitMQ node: links, heartbeats, commands and notices."""

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pika
import pytest
import pytest_asyncio
from broker_rig import MANAGER, UEP, amqp_creds, message
from globus_compute_common import messagepack
from twinlock_broker import command
from twinlock_broker.amqp import Link, LinkError
from twinlock_broker.command import Delivery
from twinlock_broker.command_queue import CommandQueue
from twinlock_broker.heartbeat import Heartbeat
from twinlock_broker.notices import Notices
from twinlock_broker.queues import Source, Target
from twinlock_broker.register import Registration
from twinlock_broker.secret import Secret
from twinlock_service.management import Management
from twinlock_service.rabbitmq import VHOST, private_node

pytestmark = [pytest.mark.system, pytest.mark.asyncio(loop_scope="module")]


class Rabbit:
    """A node with an exchange `ep`, whose key `beats` leads to the queue `beats`, and a queue `cmds`.

    `url` is a user's who may publish to `ep` and read `cmds`, as an endpoint may; `admin` may do everything.
    """

    def __init__(self, url: str, admin: str, management: Management) -> None:
        self.url, self.admin, self.management = url, admin, management

    @property
    def target(self) -> Target:
        """Where heartbeats and notices go."""
        return Target(Secret(self.url), "ep", "beats", 2)

    async def take(self, queue: str) -> bytes:
        """The next message of a queue, awaited for ten seconds at most."""
        return await asyncio.to_thread(_take, self.admin, queue)

    async def command(self, body: bytes) -> None:
        """Send a command as the service does."""
        properties = pika.BasicProperties(content_type="application/json", timestamp=1700000000)
        await asyncio.to_thread(_put, self.admin, "cmds", body, properties)

    async def hang_up(self, down: Callable[[], bool]) -> None:
        """Close the endpoint's connections, until it has noticed. (They show in the management API after a while.)"""
        while not down():
            await self.management.disconnect("ep-user")
            await asyncio.sleep(0.1)


def _take(url: str, queue: str) -> bytes:
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        channel.basic_qos(prefetch_count=1)
        method, _, body = next(channel.consume(queue, inactivity_timeout=10))
        assert body is not None, f"no message came to {queue}"
        channel.basic_ack(method.delivery_tag)
        return bytes(body)


def _put(url: str, queue: str, body: bytes, properties: Any) -> None:
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        connection.channel().basic_publish("", queue, body, properties)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rabbit() -> AsyncIterator[Rabbit]:
    with tempfile.TemporaryDirectory(prefix="twl-", dir="/var/tmp", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        async with private_node(Path(name)) as node, aiohttp.ClientSession() as session:
            management = Management(session, node.management_url, VHOST)
            await management.user("ep-user", "hush", read="^cmds$", write="^ep$")
            await management.exchange("ep")
            for queue in ("beats", "cmds"):
                await management.queue(queue)
            await management.bind("ep", "beats", "beats")
            url = str(node.url.with_user("ep-user").with_password("hush"))
            yield Rabbit(url, str(node.url), management)


@asynccontextmanager
async def linked(url: str) -> AsyncIterator[Link]:
    """An open link."""
    link = await Link.open(Secret(url))
    try:
        yield link
    finally:
        await link.close()


async def test_publish_and_consume(rabbit: Rabbit) -> None:
    got: asyncio.Queue[tuple[Delivery, int]] = asyncio.Queue()
    async with linked(rabbit.url) as link:
        consumer = await link.consume("cmds", 1, lambda found, tag: got.put_nowait((found, tag)))
        await rabbit.command(b"{}")
        found, tag = await asyncio.wait_for(got.get(), 10)
        assert found == Delivery("application/json", 1700000000, b"{}")
        link.ack(tag)
        await link.cancel(consumer)
        await asyncio.gather(*(link.publish(rabbit.target, f"{number}".encode()) for number in range(20)))
    assert {await rabbit.take("beats") for _ in range(20)} == {f"{number}".encode() for number in range(20)}


async def test_a_message_that_no_queue_takes(rabbit: Rabbit) -> None:
    async with linked(rabbit.url) as link:
        with pytest.raises(LinkError, match="no queue takes the message"):
            await link.publish(Target(Secret(""), "ep", "nowhere", 2), b"x")
        await link.publish(rabbit.target, b"after")
    assert await rabbit.take("beats") == b"after"


async def test_what_isnt_allowed_ends_the_link(rabbit: Rabbit) -> None:
    async with linked(rabbit.url) as link:
        with pytest.raises(LinkError, match="ACCESS_REFUSED"):
            await link.consume("beats", 1, lambda found, tag: None)
        assert "ACCESS_REFUSED" in await link.closed()
        with pytest.raises(LinkError):
            await link.publish(rabbit.target, b"x")


@pytest.mark.parametrize("url", ["amqp://ep-user:wrong@{}", "amqp://u:hush@127.0.0.1:1/v", "amqp://%zz"])
async def test_a_link_that_cant_be_opened_shows_no_password(rabbit: Rabbit, url: str) -> None:
    with pytest.raises(LinkError) as failed:
        await Link.open(Secret(url.format(rabbit.url.split("@")[1])))
    assert "wrong" not in str(failed.value)
    assert "hush" not in str(failed.value)


def state(body: bytes) -> tuple[str, dict[str, Any]]:
    """Whose report it is and what it says, by the service's own decoder."""
    report = messagepack.unpack(body)
    assert isinstance(report, messagepack.message_types.EPStatusReport)
    return str(report.endpoint_id), report.global_state


async def test_heartbeats_go_on_after_a_lost_connection_and_end_with_a_goodbye(rabbit: Rabbit) -> None:
    registration = Registration(MANAGER, Source(Secret(rabbit.url), "cmds"), rabbit.target)
    heartbeat = Heartbeat(registration, 3600)
    running = asyncio.create_task(heartbeat.run())
    await asyncio.wait_for(heartbeat.first.wait(), 10)
    assert state(await rabbit.take("beats")) == (MANAGER, {"heartbeat_period": 3600})
    heartbeat.first.clear()
    await asyncio.wait_for(rabbit.hang_up(heartbeat.first.is_set), 30)
    assert state(await rabbit.take("beats")) == (MANAGER, {"heartbeat_period": 3600})
    running.cancel()
    await asyncio.wait((running,))
    await heartbeat.say_goodbye()
    assert state(await rabbit.take("beats")) == (MANAGER, {"heartbeat_period": 0})


async def test_a_command_is_acknowledged_when_its_outcome_is_decided(rabbit: Rabbit) -> None:
    seen: asyncio.Queue[bytes] = asyncio.Queue()
    decided = asyncio.Event()

    async def handle(found: Delivery) -> None:
        seen.put_nowait(found.body)
        if found.body == b"fails":
            raise RuntimeError("unexpected")
        if found.body == b"slow":
            await decided.wait()

    commands = CommandQueue(Source(Secret(rabbit.url), "cmds"), handle)
    running = asyncio.create_task(commands.run())
    await asyncio.wait_for(commands.ready.wait(), 10)
    for body in (b"slow", b"fails", b"quick"):
        await rabbit.command(body)
    assert [await asyncio.wait_for(seen.get(), 10) for _ in range(3)] == [b"slow", b"fails", b"quick"]
    await asyncio.wait_for(rabbit.hang_up(lambda: not seen.empty()), 30)
    assert await asyncio.wait_for(seen.get(), 10) == b"slow", "it alone was not acknowledged, so it alone comes again"
    decided.set()
    running.cancel()
    await asyncio.wait((running,))
    await commands.stop()
    await rabbit.command(b"after")
    assert await rabbit.take("cmds") == b"after", "all else was acknowledged, and nobody consumes any more"


async def test_a_notice_reaches_the_service(rabbit: Rabbit, caplog: pytest.LogCaptureFixture) -> None:
    found = command.credentials(message(amqp_creds=amqp_creds(rabbit.url)), None)
    await Notices().send(found, "what is wrong \ud800", "a detail")
    endpoint, said = state(await rabbit.take("beats"))
    assert endpoint == UEP
    assert said["heartbeat_period"] == 3
    text, _, error_id = said["error"].partition("\n")
    assert text == "what is wrong ?"
    assert error_id.strip("()").removeprefix("error id ") in caplog.text
    assert "a detail" in caplog.text
    assert "a detail" not in json.dumps(said)


async def test_a_notice_that_cant_be_sent_is_in_the_log(rabbit: Rabbit, caplog: pytest.LogCaptureFixture) -> None:
    url = rabbit.url.replace("hush", "wrong")
    await Notices().send(command.credentials(message(amqp_creds=amqp_creds(url)), None), "what is wrong", "")
    assert "the user was not told" in caplog.text
    assert "wrong@" not in caplog.text
