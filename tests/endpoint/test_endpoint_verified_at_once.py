"""A RabbitMQ that sends more than it was asked for, to an endpoint in verified mode that has no options yet."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from amqp_changer import Changer, changer
from endpoint_rig import Broker, Queues, Running, until
from endpoint_tasks import double
from verified_rig import THREADS, Host, answer, refusal, submit

pytestmark = pytest.mark.system

_QOS = bytes.fromhex("003c 000a 00000000")
"""How `basic.qos` begins (AMQP 0-9-1, 1.8.3.1): class, method, a size. A number of messages follows in two bytes."""


@pytest.fixture
def on_the_way(broker: Broker) -> Iterator[Changer]:
    """Who asks for any number of messages where the endpoint asks for one."""
    with changer(broker.endpoint_url, _QOS + b"\0\1", _QOS + b"\0\0") as made:
        yield made


@pytest.fixture
def endpoint_url(on_the_way: Changer) -> str:
    """That way."""
    return on_the_way.url


def test_one_task_brings_the_options(
    verified: Callable[..., Running], home: Path, queues: Queues, host: Host, trace: Path, on_the_way: Changer
) -> None:
    """The user has signed both, for two endpoints."""
    go = home / "go"
    setup = f"echo {{{{ name }}}} >> {trace}; until [ -e {go} ]; do sleep 0.05; done"
    host.write("endpoint/user_config_template.yaml.j2", f"{THREADS}endpoint_setup: {setup}\n")
    host.configure(amqp_hosts=[on_the_way.address])
    running = verified()
    first, second = (host.session(user_endpoint_config={"name": name}).task(double, 2) for name in ("one", "two"))
    task = submit(queues, first)
    until(trace.exists)
    other = submit(queues, second)
    until(lambda: queues.waiting_tasks() == 0)
    assert on_the_way.changed == 1
    go.touch()
    assert answer(home, queues, task, first) == 4
    assert "is signed for other options than this endpoint has" in refusal(queues, other)
    assert trace.read_text() == "one\n"
    assert running.log().count("The options of this endpoint were signed by") == 1
