"""What a broker goes through in bad times, as a process, with a real spawner and a real RabbitMQ."""

import asyncio
import contextlib
import copy
import json
import os
import random
import signal
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pika
import psutil
import pytest
from broker_process import Broker, broker_place, running_spawner
from broker_rabbit import Rabbit
from broker_rest import Service, rest_service
from broker_rig import MANAGER, amqp_creds, identity, message
from globus_compute_common import messagepack
from pika.exceptions import AMQPError
from spawner_rig import Spawner
from twinlock_testbed.users import throw_away

pytestmark = [
    pytest.mark.system,
    pytest.mark.thorough,
    pytest.mark.asyncio(loop_scope="package"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: endpoints of other accounts are started"),
]

POLICY = {"broker_user": "nobody", "deny_users": ["root"], "system_uids": []}
PLAIN = "engine: {type: ThreadPoolEngine}\n"
SEED = int(os.environ.get("TWINLOCK_SEED", "0")) or random.randrange(1 << 32)


@contextlib.contextmanager
def site(rabbit: Rabbit, output: str = "daemon", **policy: object) -> Iterator[tuple[Path, Spawner, Service]]:
    """A spawner and a service, and a place for brokers."""
    with (
        broker_place(output, PLAIN) as place,
        rest_service(rabbit.url, MANAGER) as service,
        running_spawner(place, POLICY | policy) as spawner,
    ):
        yield place, spawner, service


def command(rabbit: Rabbit, endpoint: str, user: str = "alice") -> dict[str, Any]:
    """A start command."""
    creds = amqp_creds(rabbit.url) | {"endpoint_id": endpoint}
    made = message(name=f"uep.{MANAGER}.{endpoint}", amqp_creds=creds, user_opts={})
    sub = str(uuid.uuid5(uuid.NAMESPACE_DNS, user))
    return made | {"globus_identity_set": [identity(sub, f"{user}@site.example")]}


def properties(age: float = 0, content_type: str = "application/json") -> pika.BasicProperties:
    """Those of a command, `age` seconds old."""
    return pika.BasicProperties(content_type=content_type, timestamp=round(time.time() - age), delivery_mode=2)


async def publish(rabbit: Rabbit, *commands: dict[str, Any]) -> None:
    """Send commands; one alone is confirmed."""
    bodies = [json.dumps(one).encode() for one in commands]
    await rabbit.commands(bodies, [properties() for _ in bodies])


def starts(spawner: Spawner) -> Counter[str]:
    """How often each endpoint was started."""
    return Counter(line["id"] for line in spawner.audit() if line["event"] == "spawned")


async def until(spawner: Spawner, count: int) -> None:
    """Wait for so many different endpoints."""
    async with asyncio.timeout(300):
        while len(starts(spawner)) < count:
            await asyncio.sleep(0.1)


# A command is none without any of these, nor with anything else in their place.
REQUIRED = (
    ("command",),
    ("kwargs",),
    ("globus_identity_set",),
    ("kwargs", "name"),
    ("kwargs", "amqp_creds"),
    ("kwargs", "amqp_creds", "endpoint_id"),
    ("kwargs", "amqp_creds", "task_queue_info"),
    ("kwargs", "amqp_creds", "result_queue_info"),
    ("kwargs", "amqp_creds", "heartbeat_queue_info"),
    ("kwargs", "amqp_creds", "heartbeat_queue_info", "connection_url"),
    ("kwargs", "amqp_creds", "heartbeat_queue_info", "queue_publish_kwargs"),
)
NONSENSE: tuple[Any, ...] = (
    None,
    0,
    -1,
    1e300,
    True,
    "",
    "x" * 3000,
    "\ud800",
    "../../etc",
    [],
    [[]],
    {},
    {"a": {}},
    ["\0"],
)


class Spoiler:
    """Makes malformed commands of a good one."""

    def __init__(self, good: dict[str, Any], seed: int) -> None:
        self._good = good
        self._random = random.Random(seed)

    def make(self) -> tuple[bytes, pika.BasicProperties]:
        """One of them. Few can be answered: an answer takes a connection of its own, and there are thousands."""
        ways = (self._broken_text, self._broken_bytes, self._wrong_field, self._wrong_properties)
        return self._random.choices(ways, (30, 30, 39, 1))[0]()

    def _broken_text(self) -> tuple[bytes, pika.BasicProperties]:
        text = json.dumps(self._good).encode()
        return text[: self._random.randrange(len(text))], properties()

    def _broken_bytes(self) -> tuple[bytes, pika.BasicProperties]:
        text = json.dumps(self._good).encode()
        where = self._random.randrange(len(text))
        spoilt = [text[:where] + wrong + text[where + 1 :] for wrong in (b"\xff", b"\x00", b"\x1b")]
        return self._random.choice([*spoilt, b"[" * 5000 + text]), properties()

    def _wrong_field(self) -> tuple[bytes, pika.BasicProperties]:
        made = copy.deepcopy(self._good)
        path = self._random.choice(REQUIRED[1:2] + REQUIRED[4:])
        place: Any = made
        for key in path[:-1]:
            place = place[key]
        if self._random.random() < 0.3:
            del place[path[-1]]
        else:
            place[path[-1]] = self._random.choice(NONSENSE)
        return json.dumps(made).encode(), properties()

    def _wrong_properties(self) -> tuple[bytes, pika.BasicProperties]:
        made = copy.deepcopy(self._good)
        which = self._random.randrange(4)
        if which < 2:
            made[("command", "globus_identity_set")[which]] = self._random.choice(NONSENSE)
        elif which == 2:
            made["kwargs"]["name"] = self._random.choice(NONSENSE)
        age, kind = (1000, "application/json") if which == 3 else (0, "application/json")
        return json.dumps(made).encode(), properties(age, kind)


async def test_ten_thousand_malformed_commands_start_nothing_and_cost_no_memory(rabbit: Rabbit) -> None:
    good = command(rabbit, str(uuid.uuid4()))
    spoiler = Spoiler(good, SEED)
    with site(rabbit) as (place, spawner, service):
        async with Broker.running(place, spawner, service, program="sleep") as broker:
            process = psutil.Process(broker.process.pid)
            grown = 0
            for count in (2000, 8000):
                await rabbit.commands(*zip(*(spoiler.make() for _ in range(count)), strict=True))
                before = process.memory_info().rss
                async with asyncio.timeout(240):
                    while await rabbit.waiting("cmds"):
                        await asyncio.sleep(0.2)
                grown = process.memory_info().rss - before
            assert grown < 10 << 20, f"{grown} bytes more after the last 8,000; TWINLOCK_SEED={SEED}"
            assert starts(spawner) == {}, f"TWINLOCK_SEED={SEED}"
            await publish(rabbit, good)
            await until(spawner, 1)
            await broker.stop()
        assert await rabbit.waiting("cmds") == 0


@pytest.fixture
def people() -> Iterator[list[str]]:
    """Fifty accounts."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(throw_away(f"twl-p{number:02}")).pw_name for number in range(50)]


async def test_five_hundred_starts_at_once_for_fifty_users(rabbit: Rabbit, people: list[str]) -> None:
    commands = [command(rabbit, str(uuid.uuid4()), user) for user in people for _ in range(10)]
    random.Random(SEED).shuffle(commands)
    with site(rabbit, output="{0}") as (place, spawner, service):
        async with Broker.running(place, spawner, service, program="sleep") as broker:
            await publish(rabbit, *commands)
            await until(spawner, 500)
            assert set(starts(spawner).values()) == {1}
            users = Counter(line["user"] for line in spawner.audit() if line["event"] == "identity")
            assert users == dict.fromkeys(people, 10)
            log = await broker.stop()
            assert "told to the user" not in log


async def test_a_broker_that_is_killed_at_fifty_points_of_starts_neither_loses_nor_doubles_any(rabbit: Rabbit) -> None:
    moments = random.Random(SEED)
    asked: list[str] = []
    with site(rabbit, max_children_per_user=100, start_rate_per_user=100.0) as (place, spawner, service):
        for _ in range(10):
            several = [str(uuid.uuid4()) for _ in range(5)]  # each is cut off at another point
            async with Broker.running(place, spawner, service, program="sleep") as broker:
                for one in several:
                    await publish(rabbit, command(rabbit, one))
                    await asyncio.sleep(moments.uniform(0, 0.03))  # the random point, not a wait for anything
                broker.process.kill()
                await broker.process.wait()
            asked += several
        async with Broker.running(place, spawner, service, program="sleep") as broker:
            await until(spawner, 50)
            assert await rabbit.waiting("cmds") == 0
            log = await broker.stop()
        assert starts(spawner) == dict.fromkeys(asked, 1), f"{SEED=}"
        assert "told to the user" not in log, f"{SEED=}"


async def test_a_start_outlives_the_broker_with_what_it_printed(rabbit: Rabbit) -> None:
    endpoint = str(uuid.uuid4())
    with site(rabbit) as (place, spawner, service):
        async with Broker.running(place, spawner, service, program="late") as broker:
            await publish(rabbit, command(rabbit, endpoint))
            await until(spawner, 1)
            child = await waiting(spawner)
            await rabbit.acknowledged("cmds")  # or the next broker gets the command too, and starts it once more
            broker.process.kill()
            await broker.process.wait()
        child.send_signal(signal.SIGUSR1)
        async with Broker.running(place, spawner, service, program="late") as broker:
            child.send_signal(signal.SIGUSR1)
            text = await notice(rabbit, endpoint)
            assert "ended with exit code 1 before it was up. It printed:\nthe first word\nthe last word" in text
            await broker.stop()
        assert starts(spawner) == {endpoint: 1}
        assert not [path for path in (place / "state" / "endpoints").iterdir() if path.suffix != ".json"]


async def waiting(spawner: Spawner) -> psutil.Process:
    """The program `late`, as soon as it waits."""
    async with asyncio.timeout(60):
        while True:
            for child in psutil.Process(spawner.process.pid).children(recursive=True):
                with contextlib.suppress(OSError, psutil.NoSuchProcess):  # it has ended meanwhile
                    status = Path(f"/proc/{child.pid}/status").read_text()
                    blocked = int(status.split("SigBlk:")[1].split()[0], 16)
                    if child.uids().real != 0 and blocked >> (signal.SIGUSR2 - 1) & 1:
                        return child
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def load(rabbit: Rabbit, asked: list[str]) -> AsyncIterator[None]:
    """Commands for ever new endpoints, one after the other, while the block runs; `asked` are those that were taken.

    Each is another person's: of one, a broker that comes back to hundreds on a slow machine would refuse some.
    """

    async def send() -> None:
        while True:
            one = str(uuid.uuid4())
            try:
                await publish(rabbit, command(rabbit, one, user=one))
            except (AMQPError, OSError):
                await asyncio.sleep(0.1)  # RabbitMQ is away; that it was taken wasn't confirmed
                continue
            asked.append(one)
            await asyncio.sleep(0.2)

    task = asyncio.create_task(send())
    yield
    task.cancel()
    await asyncio.wait((task,))


async def test_rabbitmq_that_starts_over_twenty_times_costs_no_command(rabbit: Rabbit) -> None:
    asked: list[str] = []
    patient: dict[str, Any] = {"max_children_per_user": 2000, "start_rate_per_user": 100.0}
    with site(rabbit, **patient) as (place, spawner, service):
        async with Broker.running(place, spawner, service, program="sleep") as broker:
            async with load(rabbit, asked):
                await rabbit.restart(20)
            assert len(asked) > 5, "there was load"
            last = str(uuid.uuid4())
            await publish(rabbit, command(rabbit, last))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(300):
                    while not {*asked, last} <= starts(spawner).keys():
                        await asyncio.sleep(0.1)
            missing = {*asked, last} - starts(spawner).keys()
            assert not missing, [line for line in broker.log.splitlines() if any(one in line for one in missing)][:3]
            assert set(starts(spawner).values()) == {1}
            await broker.stop()


async def test_a_spawner_that_is_killed_under_the_broker_is_told_and_replaced(rabbit: Rabbit) -> None:
    before, after = (str(uuid.uuid4()) for _ in range(2))
    with site(rabbit) as (place, first, service):
        async with Broker.running(place, first, service, program="sleep") as broker:
            await publish(rabbit, command(rabbit, before))
            await until(first, 1)
            first.process.send_signal(signal.SIGKILL)
            await asyncio.to_thread(first.process.wait)
            await publish(rabbit, command(rabbit, after))  # it waits for the next spawner
            assert "lost with the site's spawner" in await notice(rabbit, before)
            with running_spawner(place, POLICY) as second:
                await until(second, 2)
                assert starts(second) == {before: 1, after: 1}  # the audit file is the same for both
                await broker.stop()


async def notice(rabbit: Rabbit, endpoint: str) -> str:
    """The text of the next notice about `endpoint`."""
    while True:
        report = messagepack.unpack(await rabbit.take("beats"))
        if str(report.endpoint_id) == endpoint and "error" in report.global_state:
            return str(report.global_state["error"])


@pytest.mark.parametrize("age", [200, -200])
async def test_a_clock_that_is_200_s_off_is_told_to_the_user(rabbit: Rabbit, age: int) -> None:
    endpoint = str(uuid.uuid4())
    with site(rabbit) as (place, spawner, service):
        async with Broker.running(place, spawner, service, program="sleep") as broker:
            await rabbit.commands([json.dumps(command(rabbit, endpoint)).encode()], [properties(age)])
            assert "check the clock" in await notice(rabbit, endpoint)
            await broker.stop()
        assert starts(spawner) == {}


async def test_a_login_that_is_revoked_ends_the_broker_and_nothing_else(rabbit: Rabbit) -> None:
    before, after = (str(uuid.uuid4()) for _ in range(2))
    with site(rabbit) as (place, spawner, service):
        async with Broker.running(place, spawner, service, program="sleep") as broker:
            await publish(rabbit, command(rabbit, before))
            await until(spawner, 1)
            service.status = 401
            await rabbit.management.delete_user("ep-user")  # RabbitMQ closes its connections
            assert await asyncio.wait_for(broker.process.wait(), 180) == os.EX_NOPERM, broker.log
            assert "run twinlock login again" in broker.log
        service.status = 200
        await rabbit.management.user("ep-user", "hush", read="^cmds$", write="^ep$")
        await publish(rabbit, command(rabbit, after))  # it waits for the next broker
        async with Broker.running(place, spawner, service, program="sleep") as broker:
            await until(spawner, 2)
            assert "told to the user" not in await broker.stop()
        assert starts(spawner) == {before: 1, after: 1}
        assert "exited" not in {line["event"] for line in spawner.audit()}, "it runs all the time"
