"""Acknowledgements on a real RabbitMQ, of which some go out together."""

import asyncio

import pytest
from endpoint_rig import LIMIT_S, Broker, Queues, until
from twinlock_common.amqp.consumer import Message
from twinlock_common.amqp.link import Link

pytestmark = pytest.mark.system


@pytest.mark.cases(1)
@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (1, 3, 0, 4), (4, 0, 2, 1)])
async def test_only_what_was_settled_leaves_the_queue(queues: Queues, broker: Broker, order: tuple[int, ...]) -> None:
    for _ in range(6):
        queues.publish(b"a message")
    got: list[Message] = []
    link = await Link.open(broker.endpoint_url)
    await link.consume(queues.task_queue, 10, got.append)
    async with asyncio.timeout(LIMIT_S):
        while len(got) < 6:
            await asyncio.sleep(0.01)
    for turn in (order[:2], order[2:]):
        for number in turn:
            got[number].ack()
        await asyncio.sleep(0)
    got[5].reject()
    await link.close()
    until(lambda: queues.waiting_tasks() == 1)


async def test_what_is_acknowledged_last_leaves_the_queue_too(queues: Queues, broker: Broker) -> None:
    queues.publish(b"a message")
    got: asyncio.Queue[Message] = asyncio.Queue()
    link = await Link.open(broker.endpoint_url)
    await link.consume(queues.task_queue, 10, got.put_nowait)
    (await asyncio.wait_for(got.get(), LIMIT_S)).ack()
    await link.close()
    assert queues.waiting_tasks() == 0
