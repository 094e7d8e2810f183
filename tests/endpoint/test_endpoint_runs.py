"""Whole endpoints on a real RabbitMQ."""

from collections.abc import Callable

import pytest
from endpoint_running import Queues, Running, value

pytestmark = pytest.mark.system

LOCAL = """
engine:
  type: GlobusComputeEngine
  max_workers_per_node: 1
  provider: {type: LocalProvider, max_blocks: 1}
"""


def double(number: int) -> int:
    return number * 2


def test_a_task_is_run_by_a_local_block(endpoint: Callable[..., Running], queues: Queues) -> None:
    running = endpoint(LOCAL)
    assert queues.heartbeat()["engine_type"] == "GlobusComputeEngine"
    assert value(queues.result(queues.submit(double, 21))) == 42
    running.signal()
    end = running.end()
    assert (end.code, end.left, end.said) == (0, [], "")
