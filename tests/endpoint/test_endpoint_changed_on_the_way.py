"""Work that somebody changes between RabbitMQ and the endpoint, in both modes."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from amqp_changer import Changer, changer
from endpoint_rig import Broker, Queues, Running, value
from verified_rig import THREADS, Host, answer, refusal, submit

pytestmark = pytest.mark.system


def text() -> str:
    return "as signed"


def other() -> str:
    return "something else"


@pytest.fixture
def on_the_way(broker: Broker) -> Iterator[Changer]:
    """Who changes the first function's text."""
    with changer(broker.endpoint_url, b"as signed", b"as forged") as made:
        yield made


@pytest.fixture
def endpoint_url(on_the_way: Changer) -> str:
    """That way."""
    return on_the_way.url


def test_plain_mode_runs_what_was_changed_on_its_way(
    endpoint: Callable[..., Running], queues: Queues, on_the_way: Changer
) -> None:
    endpoint(THREADS)
    assert value(queues.result(queues.submit(text))) == "as forged"
    assert on_the_way.changed == 1


def test_verified_mode_refuses_what_was_changed_on_its_way(
    verified: Callable[..., Running], home: Path, queues: Queues, host: Host, on_the_way: Changer
) -> None:
    host.configure(amqp_hosts=[on_the_way.address])
    running = verified()
    session = host.session()
    for number in (1, 2):
        task = submit(queues, session.task(text))
        assert "The signature of the task is wrong" in refusal(queues, task)
        assert f"Task {task} is refused: The signature of the task is wrong" in running.log()
        assert on_the_way.changed == number
        envelope = session.task(other)
        assert answer(home, queues, submit(queues, envelope), envelope) == "something else"
