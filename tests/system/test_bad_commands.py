"""Commands that the service would never send: the broker answers those that can be answered, and goes on."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from site_rig import ADA, BOB, RESULT_TIMEOUT, Launch, World, eventually
from twinlock_testbed.manager import Manager, Setup

pytestmark = pytest.mark.system

TEMPLATE = "engine: {type: ThreadPoolEngine, max_workers: {{ workers }}}\n"


@pytest.fixture(scope="module")
def endpoint(launch: Launch) -> Manager:
    """A manager whose commands the tests change on their way."""
    return launch("bad-commands", Setup(TEMPLATE))


@dataclass
class Command:
    """A real command, taken from the manager's queue before the broker read it."""

    body: bytes
    properties: Any

    def changed(self, change: Callable[[dict[str, Any]], None]) -> "Command":
        """The command with its document changed."""
        document = json.loads(self.body)
        change(document)
        return Command(json.dumps(document).encode(), self.properties)


@contextmanager
def rabbitmq(world: World) -> Iterator[BlockingChannel]:
    """A channel with an administrator's rights."""
    with closing(pika.BlockingConnection(pika.URLParameters(world.service.amqp()["url"]))) as connection:
        yield connection.channel()


def publish(world: World, endpoint: Manager, command: Command) -> None:
    """Put a command into the manager's queue."""
    with rabbitmq(world) as channel:
        channel.basic_publish("", f"ep.{endpoint.endpoint_id}.commands", command.body, command.properties)


def take(world: World, endpoint: Manager) -> Command:
    """The next command in the manager's queue; the broker mustn't run."""
    found: list[Command] = []

    def get() -> bool:
        method, properties, body = channel.basic_get(f"ep.{endpoint.endpoint_id}.commands", auto_ack=True)
        if method is not None:
            found.append(Command(body, properties))
        return bool(found)

    with rabbitmq(world) as channel:
        assert eventually(get, 180), "no command came"
    return found[0]


def stale(command: Command) -> Command:
    command.properties.timestamp = int(time.time()) - 181
    return command


def undated(command: Command) -> Command:
    command.properties.timestamp = None
    return command


def slashes(command: Command) -> Command:
    return command.changed(lambda document: document["kwargs"].update(name="uep/../../../etc/passwd"))


def unknown(command: Command) -> Command:
    return command.changed(lambda document: document.update(command="cmd_reboot"))


def no_identities(command: Command) -> Command:
    return command.changed(lambda document: document.update(globus_identity_set=None))


def too_large(command: Command) -> Command:
    return command.changed(lambda document: document["kwargs"]["user_opts"].update(note="x" * (2 << 20)))


def broken_json(command: Command) -> Command:
    return Command(command.body[:-9], command.properties)


def not_utf8(command: Command) -> Command:
    return Command(b"\xff" + command.body, command.properties)


def another_type(command: Command) -> Command:
    command.properties.content_type = "application/octet-stream"
    return command


def no_task_queue(command: Command) -> Command:
    return command.changed(lambda document: document["kwargs"]["amqp_creds"].update(task_queue_info=None))


@pytest.mark.cases(1)
@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (stale, "clock"),
        (undated, "time"),
        (slashes, "name"),
        (unknown, "cmd_reboot"),
        (no_identities, "identit"),
        (too_large, "1,048,576"),
        (broken_json, "JSON"),
        (not_utf8, "0xff"),
        (another_type, "octet-stream"),
        (no_task_queue, "task_queue_info"),
    ],
)
def test_the_sender_of_a_bad_command_sees_the_reason(
    world: World, endpoint: Manager, spoil: Callable[[Command], Command], reason: str
) -> None:
    endpoint.broker.stop()
    script = world.script(ADA, endpoint.endpoint_id, {"workers": 1})
    command = take(world, endpoint)
    publish(world, endpoint, spoil(command))
    endpoint.start_broker()
    (outcome,) = script.outcomes(RESULT_TIMEOUT)
    assert outcome.result is None
    assert reason in (outcome.error or ""), outcome.error


def cut_early(command: Command) -> Command:
    return Command(command.body.partition(b"heartbeat_queue_info")[0], command.properties)


def null_kwargs(command: Command) -> Command:
    return command.changed(lambda document: document.update(kwargs=None))


def no_object(command: Command) -> Command:
    return Command(b"[1, 2]", command.properties)


@pytest.mark.cases(1)
@pytest.mark.parametrize("spoil", [cut_early, null_kwargs, no_object])
def test_a_command_that_nobody_can_answer_stops_nothing(
    world: World, endpoint: Manager, spoil: Callable[[Command], Command]
) -> None:
    """Without the queues' names in it the user can't be told; the next command, the real one, is carried out."""
    endpoint.broker.stop()
    script = world.script(ADA, endpoint.endpoint_id, {"workers": 1})
    command = take(world, endpoint)
    publish(world, endpoint, spoil(command))
    publish(world, endpoint, command)
    endpoint.start_broker()
    (outcome,) = script.outcomes(RESULT_TIMEOUT)
    assert outcome.result is not None, outcome.error
    assert endpoint.broker.alive()
    assert world.run(BOB, endpoint, {"workers": 1})[0].result is not None
