"""A RabbitMQ node for the broker that is monitored."""

from collections.abc import AsyncIterator

import pytest
from broker_rabbit import Rabbit, rabbit_node


@pytest.fixture
async def rabbit() -> AsyncIterator[Rabbit]:
    """The node."""
    async with rabbit_node() as made:
        yield made
