"""Floods of one login, over AMQP: what is refused, and that others go on."""

import base64
import json
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pika
import pytest
from globus_compute_common.messagepack.message_types import Result
from globus_compute_sdk import Client, Executor
from globus_compute_sdk.errors import TaskExecutionFailed
from globus_compute_sdk.serialize import ComputeSerializer
from pika.adapters.blocking_connection import BlockingConnection
from pika.exceptions import AMQPError
from service_rig import (
    ALICE,
    BOB,
    Manager,
    Service,
    UserEndpoint,
    end_sdk,
    free_port,
    manager,
    sdk_client,
    users_file,
    without_heartbeats,
)
from twinlock_service.rabbitmq.topology import (
    ENDPOINT_CHANNELS,
    ENDPOINT_CONNECTIONS,
    QUEUE_BYTES,
    USER_CHANNELS,
    USER_CONNECTIONS,
)
from twinlock_service.tasks.endpoint_messages import MAX_REPORT, MAX_RESULT
from twinlock_service.tasks.message_quota import UNIT
from yarl import URL

pytestmark = [pytest.mark.system, pytest.mark.thorough]

RESULT = 180.0
"""Seconds after which a result is taken not to come."""

CHOSEN_PORT = free_port()
"""Stands for 443, which may be somebody else's where tests run."""


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[Service]:
    """A service with one more port for AMQP."""
    users_file(folder / "users.yaml")
    running = Service(folder, arguments=["--amqp-ports", str(CHOSEN_PORT)])
    running.start()
    yield running
    end_sdk()
    running.stop()


@pytest.fixture
def mep(service: Service) -> Iterator[Manager]:
    """A manager endpoint that serves everybody."""
    with manager() as agent:
        yield agent


def give(value: int) -> int:
    """A user's function."""
    return value


def submitted(who: str, mep: Manager) -> tuple[Client, str, UserEndpoint]:
    """A user, the user's task, and the endpoint that has to run it."""
    client = sdk_client(who)
    batch = client.create_batch(create_websocket_queue=True)
    function = client.register_function(give)
    batch.add(function, (7,))
    task = client.batch_run(mep.id, batch)["tasks"][function][0]
    return client, task, mep.user_endpoint()


def result(client: Client, task_id: str) -> object:
    """A task's result, asked for until it is there."""
    end = time.monotonic() + RESULT
    while client.get_task(task_id)["pending"] and time.monotonic() < end:
        time.sleep(0.05)
    return client.get_result(task_id)


def connections(url: str, wanted: int) -> int:
    """How many connections out of so many RabbitMQ lets a login have; all are closed again."""
    with ExitStack() as opened, suppress(AMQPError):
        for number in range(wanted):
            opened.enter_context(BlockingConnection(without_heartbeats(url)))
            allowed = number + 1
        return allowed
    return allowed


def channels(url: str, wanted: int) -> int:
    """How many channels out of so many RabbitMQ lets a login have."""
    opened = 0
    with suppress(AMQPError), BlockingConnection(pika.URLParameters(url)) as connection:
        for _ in range(wanted):
            connection.channel()
            opened += 1
    return opened


def test_a_login_has_so_many_connections_and_channels(service: Service, mep: Manager) -> None:
    of_user = str(sdk_client(ALICE).get_result_amqp_url()["connection_url"])
    of_endpoint = str(mep.credentials["heartbeat_queue_info"]["connection_url"])
    assert connections(of_user, USER_CONNECTIONS + 30) == USER_CONNECTIONS
    assert connections(of_endpoint, ENDPOINT_CONNECTIONS + 30) == ENDPOINT_CONNECTIONS - 1, "its agent has one"
    assert channels(of_user, USER_CHANNELS + 100) <= USER_CHANNELS
    assert channels(of_endpoint, ENDPOINT_CHANNELS + 100) <= ENDPOINT_CHANNELS


def test_queues_hold_so_much(service: Service, mep: Manager) -> None:
    client, _, endpoint = submitted(ALICE, mep)
    prefix = client.get_result_amqp_url()["queue_prefix"]
    limited = {"max-length-bytes": QUEUE_BYTES, "overflow": "reject-publish"}
    wanted = {mep.queue, endpoint.credentials["task_queue_info"]["queue"]}
    end = time.monotonic() + RESULT
    found: set[str] = set()
    while len(found) < 3 and time.monotonic() < end:
        found = {each["name"] for each in queues(service) if each.get("effective_policy_definition") == limited}
        found = {name for name in found if name in wanted or name.startswith(prefix)}
    assert wanted < found
    assert len(found) == 3, "the queue of the results as well"


def queues(service: Service) -> list[dict[str, Any]]:
    """RabbitMQ's queues, as its management API shows them."""
    url = URL(service.urls()["management_url"])
    login = base64.b64encode(f"{url.user}:{url.password}".encode()).decode()
    asked = Request(str(url.with_user(None).with_path("/api/queues")), headers={"Authorization": f"Basic {login}"})
    with urlopen(asked, timeout=RESULT) as answer:
        return list(json.load(answer))


def test_a_status_report_that_is_too_large_is_not_read(service: Service, mep: Manager) -> None:
    bob, task, of_bob = submitted(BOB, mep)
    for state in ({"x": "x" * MAX_REPORT}, {"x": [0] * 20_000}, {"error": ["x" * MAX_REPORT]}):
        of_bob.heartbeat(heartbeat_period=30, **state)
    of_bob.run(of_bob.next_task()[1])
    assert result(bob, task) == 7
    status = bob.get_endpoint_status(of_bob.id)
    assert status["details"].get("x") is None
    of_bob.heartbeat(heartbeat_period=30, small=1)
    end = time.monotonic() + RESULT
    while bob.get_endpoint_status(of_bob.id)["status"] != "online" and time.monotonic() < end:
        time.sleep(0.05)
    assert bob.get_endpoint_status(of_bob.id)["details"]["small"] == 1


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"data": "x" * MAX_RESULT}, "at most 33,554,432"),
        ({"data": "", "details": {"x": [0] * 20_000}}, "10,000 values"),
    ],
    ids=["large", "of many values"],
)
def test_a_result_beyond_the_limits_is_the_tasks_error(
    service: Service, mep: Manager, more: dict[str, object], reason: str
) -> None:
    bob, task, of_bob = submitted(BOB, mep)
    of_bob.publish("result_queue_info", Result(task_id=task, **more))
    with pytest.raises(TaskExecutionFailed, match=reason):
        result(bob, task)


def test_a_result_that_is_no_json_is_the_tasks_error(service: Service, mep: Manager) -> None:
    bob, task, of_bob = submitted(BOB, mep)
    body = b'\x01{"message_type": "result", "data": {"task_id": "%s", "data": }' % task.encode()
    of_bob.channel.basic_publish(f"ep.{of_bob.id}", "results", body + b" lost " * 2**20)
    with pytest.raises(TaskExecutionFailed, match="isn't JSON"):
        result(bob, task)


def test_such_a_result_ends_no_task_of_others(service: Service, mep: Manager) -> None:
    alice, of_others, of_alice = submitted(ALICE, mep)
    bob, task, of_bob = submitted(BOB, mep)
    of_bob.publish("result_queue_info", Result(task_id=of_others, data="x" * MAX_RESULT))
    of_bob.publish("result_queue_info", Result(task_id=uuid.uuid4(), data="x" * MAX_RESULT))
    of_bob.run(of_bob.next_task()[1])
    assert result(bob, task) == 7
    assert alice.get_task(of_others)["pending"]
    of_alice.run(of_alice.next_task()[1])
    assert result(alice, of_others) == 7


def test_a_notice_is_cut_for_its_many_tasks(service: Service, mep: Manager) -> None:
    bob, task, of_bob = submitted(BOB, mep)
    of_bob.notice("why " + "x" * 100_000)
    with pytest.raises(TaskExecutionFailed, match="why x") as caught:
        result(bob, task)
    assert len(str(caught.value)) < 10_000


def test_results_come_through_a_port_that_the_user_chooses(service: Service, mep: Manager) -> None:
    with Executor(endpoint_id=mep.id, client=sdk_client(ALICE), amqp_port=CHOSEN_PORT) as executor:
        future = executor.submit(give, 7)
        endpoint = mep.user_endpoint()
        endpoint.run(endpoint.next_task()[1])
        assert future.result(RESULT) == 7


def test_an_endpoint_may_choose_it_too(service: Service, mep: Manager) -> None:
    bob, task, of_bob = submitted(BOB, mep)
    credentials = json.loads(json.dumps(of_bob.credentials))
    for info in ("task_queue_info", "result_queue_info", "heartbeat_queue_info"):
        url = pika.URLParameters(credentials[info]["connection_url"])
        credentials[info]["connection_url"] = credentials[info]["connection_url"].replace(
            str(url.port), str(CHOSEN_PORT)
        )
    elsewhere = UserEndpoint(credentials)
    elsewhere.run(elsewhere.next_task()[1])
    assert result(bob, task) == 7
    elsewhere.close()


@pytest.mark.cases(1)
@pytest.mark.parametrize("body", [b"nonsense", b"x" * 16 * 2**20], ids=["small", "large"])
def test_an_endpoint_that_sends_nothing_but_nonsense_is_cut_off_and_comes_back(
    service: Service, mep: Manager, body: bytes
) -> None:
    _, task, of_bob = submitted(BOB, mep)
    alice, of_alice_task, of_alice = submitted(ALICE, mep)
    with pytest.raises(AMQPError):
        flood(of_bob, body)
    of_alice.run(of_alice.next_task()[1])
    assert result(alice, of_alice_task) == 7
    again, _, with_its_new_password = submitted(BOB, mep)
    with_its_new_password.run(with_its_new_password.next_task()[1])
    assert result(again, task) == 7


def test_an_endpoint_may_send_its_results_again(service: Service, mep: Manager) -> None:
    """As after a lost connection, when RabbitMQ had not confirmed them yet."""
    client = sdk_client(BOB)
    batch = client.create_batch(create_websocket_queue=True)
    function = client.register_function(give)
    for value in range(7):
        batch.add(function, (value,))
    tasks = client.batch_run(mep.id, batch)["tasks"][function]
    endpoint = mep.user_endpoint()
    large = ComputeSerializer().serialize("x" * 16 * 2**20)
    for _ in range(2):
        for task in tasks[:5]:
            endpoint.send(Result(task_id=task, data=large))
    for task in tasks[5:]:
        # The second one is looked at after all has been done about those before the first one.
        endpoint.send(Result(task_id=task, data=ComputeSerializer().serialize(7)))
        assert result(client, task) == 7
    endpoint.channel.connection.process_data_events()
    assert endpoint.channel.is_open


def flood(endpoint: UserEndpoint, body: bytes) -> None:
    """Send messages that nobody can read for as long as that is possible, without waiting for confirms."""
    channel = endpoint.channel.connection.channel()
    end = time.monotonic() + RESULT
    while time.monotonic() < end:
        for _ in range(1 + 1_000 * UNIT // (UNIT + len(body))):
            channel.basic_publish(f"ep.{endpoint.id}", "results", body)
        endpoint.channel.connection.sleep(0.2)
