"""The consumer of the task queue: pauses and its end, whatever it waits for at that time."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from endpoint_rig import LIMIT_S, Broker, Queues, until
from twinlock_common.amqp.consumer import Message
from twinlock_common.amqp.link import Link
from twinlock_endpoint.queues.consumer import TaskConsumer

pytestmark = pytest.mark.system


class Consuming:
    """A consumer on a connection, from where the test begins."""

    def __init__(self, queue: str, link: Link) -> None:
        self.got: asyncio.Queue[Message] = asyncio.Queue()
        self.ready = asyncio.Event()
        self.consumer = TaskConsumer(queue, 6, self.got.put_nowait, self.ready.set, lambda: None)
        self._link = link

    def begin(self) -> None:
        """Take tasks."""
        self.consumer.begin()
        self._using = asyncio.create_task(self.consumer.use(self._link))

    async def message(self) -> bytes:
        """The next one."""
        found = await asyncio.wait_for(self.got.get(), LIMIT_S)
        found.ack()
        return found.body


@pytest_asyncio.fixture
async def consuming(broker: Broker, queues: Queues) -> AsyncIterator[Consuming]:
    """A consumer that doesn't take tasks yet."""
    link = await Link.open(broker.endpoint_url)
    yield Consuming(queues.task_queue, link)
    await link.close()


async def test_its_end_while_it_begins(consuming: Consuming, queues: Queues) -> None:
    consuming.begin()
    await asyncio.sleep(0)
    consuming.consumer.end()
    await asyncio.wait_for(consuming.ready.wait(), LIMIT_S)
    await asyncio.to_thread(until, lambda: not queues.consumers())


async def test_its_end_while_it_resumes(consuming: Consuming, queues: Queues) -> None:
    consuming.begin()
    await asyncio.wait_for(consuming.ready.wait(), LIMIT_S)
    assert await consuming.consumer.pause()
    resuming = asyncio.create_task(consuming.consumer.resume(1))
    await asyncio.sleep(0)
    consuming.consumer.end()
    await asyncio.wait_for(resuming, LIMIT_S)
    await asyncio.to_thread(until, lambda: not queues.consumers())


async def test_what_is_asked_for_twice_happens_once(consuming: Consuming, queues: Queues) -> None:
    consuming.begin()
    await asyncio.wait_for(consuming.ready.wait(), LIMIT_S)
    async with asyncio.timeout(LIMIT_S):
        paused = await asyncio.gather(consuming.consumer.pause(), consuming.consumer.pause())
        assert (list(paused), queues.consumers()) == ([True, False], 0)
        await asyncio.gather(consuming.consumer.resume(1), consuming.consumer.resume(1))
        assert queues.consumers() == 1
    queues.publish(b"a message")
    assert await consuming.message() == b"a message"
