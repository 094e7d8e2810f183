"""A private RabbitMQ node with what an endpoint has there."""

import asyncio
import json
import os
import subprocess
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pika
from patience import SERVICE, patient
from rabbit_control import evaluate
from twinlock_broker.compute.queues import Target
from twinlock_broker.secret import Secret
from twinlock_service.rabbitmq.management import Management
from twinlock_service.rabbitmq.node_files import VHOST
from twinlock_service.rabbitmq.private_node import private_node

_QUEUES = ("beats", "cmds")


class Rabbit:
    """A node with an exchange `ep`, whose key `beats` leads to the queue `beats`, and a queue `cmds`.

    `url` is a user's who may publish to `ep` and read `cmds`, as an endpoint may; `admin` may do everything.
    """

    def __init__(self, url: str, admin: str, management: Management, folder: Path) -> None:
        self.url, self.admin, self.management = url, admin, management
        self._folder = folder

    @property
    def target(self) -> Target:
        """Where heartbeats and notices go."""
        return Target(Secret(self.url), "ep", "beats", 2)

    async def renew(self) -> None:
        """Have nothing in the queues, and nothing that comes back to them from who has it still."""
        for queue in _QUEUES:
            await self.management.delete_queue(queue)
        await _declare_queues(self.management)

    async def take(self, queue: str) -> bytes:
        """The next message of a queue, awaited for three minutes at most."""
        return await asyncio.to_thread(_take, self.admin, queue)

    async def command(self, body: bytes, timestamp: int = 1700000000) -> None:
        """Send a command as the service does."""
        properties = pika.BasicProperties(content_type="application/json", timestamp=timestamp)
        await asyncio.to_thread(_put, self.admin, "cmds", body, properties)

    async def commands(self, bodies: Sequence[bytes], properties: Sequence[pika.BasicProperties]) -> None:
        """Send commands over one connection; one alone is confirmed."""
        await asyncio.to_thread(_put_all, self.admin, "cmds", bodies, properties)

    async def waiting(self, queue: str) -> int:
        """Messages of a queue that nobody holds."""
        return await asyncio.to_thread(_count, self.admin, queue)

    async def acknowledged(self, queue: str) -> None:
        """Wait, for three minutes at most, until no consumer has a message of the queue that it may give back."""
        found = f'{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"{VHOST}">>, queue, <<"{queue}">>))'
        held = "[{_, N}] = rabbit_amqqueue:info(Q, [messages_unacknowledged])"
        async with asyncio.timeout(180):
            while (await self.evaluate(f"begin {found}, {held}, N end")).strip() != "0":
                await asyncio.sleep(0.1)

    async def restart(self, times: int) -> None:
        """Stop RabbitMQ and start it again, connections, queues and all, so often; it is there for a second in between.

        In the same process: a new one, with a new rabbitmqctl, would take a multiple of that. Its event manager
        doesn't end when it is asked to; RabbitMQ would wait five seconds for it.
        """
        ports = json.loads((self._folder / "rabbitmq" / "ports.json").read_text())
        environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(self._folder / "rabbitmq" / "node"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_NODENAME": f"twinlock-{ports['amqp']}@localhost",
            "ERL_EPMD_PORT": str(ports["epmd"]),
        }
        impatient = "spawn(fun() -> timer:sleep(500), catch exit(whereis(rabbit_event), kill) end)"
        each = f"begin {impatient}, rabbit:stop(), rabbit:start(), timer:sleep(1000) end"
        each = f"[{each} || _ <- lists:seq(1, {times})]."
        argv = ["/usr/lib/rabbitmq/bin/rabbitmqctl", "--timeout", "600", "eval", each]
        drop = ["setpriv", "--reuid=rabbitmq", "--regid=rabbitmq", "--init-groups"] if os.geteuid() == 0 else []
        process = await asyncio.create_subprocess_exec(*drop, *argv, env=environment, cwd="/", stdout=subprocess.PIPE)
        said, _ = await process.communicate()
        assert process.returncode == 0, said.decode()

    async def evaluate(self, expression: str) -> str:
        """What an Erlang expression gives on the node."""
        return await asyncio.to_thread(evaluate, self._folder, expression)

    async def hang_up(self) -> None:
        """Close the endpoint's connections that are open by now, each once; who comes back is left alone.

        Not by the management API, which shows a connection some seconds late: to close again until something is
        closed may also close the next one.
        """
        user = "(catch rabbit_reader:info(P, [user]))"  # of one that has just gone there is none
        those = f'P <- rabbit_networking:connections(), {user} =:= [{{user, <<"ep-user">>}}]'
        close = f'[rabbit_networking:close_connection(P, <<"closed by the test">>) || {those}]'
        await self.evaluate(f"begin pg_local:sync(), {close} end")


def _take(url: str, queue: str) -> bytes:
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        channel.basic_qos(prefetch_count=1)
        method, _, body = next(channel.consume(queue, inactivity_timeout=180))
        assert body is not None, f"no message came to {queue}"
        channel.basic_ack(method.delivery_tag)
        return bytes(body)


def _put_all(url: str, queue: str, bodies: Sequence[bytes], properties: Sequence[pika.BasicProperties]) -> None:
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        if len(bodies) == 1:
            channel.confirm_delivery()
        for body, one in zip(bodies, properties, strict=True):
            channel.basic_publish("", queue, body, one)


def _count(url: str, queue: str) -> int:
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        return int(connection.channel().queue_declare(queue, passive=True).method.message_count)


def _put(url: str, queue: str, body: bytes, properties: Any) -> None:
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        connection.channel().basic_publish("", queue, body, properties)


async def _declare_queues(management: Management) -> None:
    for queue in _QUEUES:
        await management.queue(queue)
    await management.bind("ep", "beats", "beats")


@asynccontextmanager
async def rabbit_node() -> AsyncIterator[Rabbit]:
    """The node, while it runs."""
    with (
        tempfile.TemporaryDirectory(prefix="twl-", dir="/var/tmp", ignore_cleanup_errors=True) as name,
        patient(SERVICE),
    ):
        Path(name).chmod(0o755)
        async with private_node(Path(name)) as node, aiohttp.ClientSession() as session:
            management = Management(session, node.management_url, VHOST)
            await management.user("ep-user", "hush", read="^cmds$", write="^ep$")
            await management.exchange("ep")
            await _declare_queues(management)
            url = str(node.url.with_user("ep-user").with_password("hush"))
            yield Rabbit(url, str(node.url), management, Path(name))
