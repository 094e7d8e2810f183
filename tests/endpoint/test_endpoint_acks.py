"""Acknowledgements on a real RabbitMQ, of which some go out together."""

import asyncio

import pytest
from endpoint_rig import LIMIT_S, Broker, Queues, until
from twinlock_common.amqp.connection import parameters
from twinlock_endpoint.queues.connection import ReconnectingConnection
from twinlock_endpoint.queues.consumer import Delivery, TaskConsumer

pytestmark = pytest.mark.system


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (1, 3, 0, 4), (4, 0, 2, 1)])
async def test_only_what_was_settled_leaves_the_queue(queues: Queues, broker: Broker, order: tuple[int, ...]) -> None:
    for _ in range(6):
        queues.publish(b"a message")
    got: list[Delivery] = []
    consumer = TaskConsumer(queues.task_queue, 10, got.append, lambda: None, lambda: None)
    connection = ReconnectingConnection(parameters(broker.endpoint_url, None, 60), [consumer], lambda _reason: None)
    connection.open()
    consumer.begin()
    async with asyncio.timeout(LIMIT_S):
        while len(got) < 6:
            await asyncio.sleep(0.01)
    for turn in (order[:2], order[2:]):
        for number in turn:
            consumer.ack(got[number])
        await asyncio.sleep(0)
    consumer.reject(got[5])
    await connection.close()
    until(lambda: queues.waiting_tasks() == 1)
