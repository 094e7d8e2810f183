"""What one endpoint or user can't do to another, tried with their own credentials on the real RabbitMQ."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pika
import pytest
from globus_compute_common.messagepack.message_types import EPStatusReport, Result
from globus_compute_sdk import Client
from pika.exceptions import ChannelClosedByBroker
from service_rig import ALICE, BOB, Manager, Service, UserEndpoint, register, sdk_client

pytestmark = pytest.mark.system

ACCESS_REFUSED = 403


def give(value: int) -> int:
    """A user's function."""
    return value


def submitted(who: str, mep: Manager) -> tuple[Client, str, str, UserEndpoint]:
    """A user, the user's task and its group, and the endpoint that has to run it."""
    client = sdk_client(who)
    batch = client.create_batch(create_websocket_queue=True)
    function = client.register_function(give)
    batch.add(function, (7,))
    answer = client.batch_run(mep.id, batch)
    return client, answer["tasks"][function][0], answer["task_group_id"], mep.user_endpoint()


@contextmanager
def refused(url: str) -> Iterator[pika.adapters.blocking_connection.BlockingChannel]:
    """RabbitMQ refuses what is tried on this channel."""
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        with pytest.raises(ChannelClosedByBroker) as caught:
            yield channel
        assert caught.value.reply_code == ACCESS_REFUSED


def url_of(agent: UserEndpoint | Manager) -> str:
    """How an endpoint reaches RabbitMQ."""
    return str(agent.credentials["heartbeat_queue_info"]["connection_url"])


def test_an_endpoint_reads_no_queue_but_its_own(service: Service, mep: Manager) -> None:
    _, _, group, of_alice = submitted(ALICE, mep)
    *_, of_bob = submitted(BOB, mep)
    results = f"{sdk_client(ALICE).get_result_amqp_url()['queue_prefix']}{group}"
    others = register()["command_queue_info"]["queue"]
    for agent, own in ((of_bob, of_bob.credentials["task_queue_info"]["queue"]), (mep, mep.queue)):
        for queue in (of_alice.credentials["task_queue_info"]["queue"], results, "service.results", others):
            with refused(url_of(agent)) as channel:
                channel.basic_consume(queue, print)
            with refused(url_of(agent)) as channel:
                channel.queue_purge(queue)
        agent.channel.queue_declare(own, passive=True)
    assert mep.queue not in others


def test_an_endpoint_writes_no_exchange_but_its_own(service: Service, mep: Manager) -> None:
    *_, of_alice = submitted(ALICE, mep)
    *_, of_bob = submitted(BOB, mep)
    for agent in (of_bob, mep):
        for exchange in ("", "amq.direct", f"ep.{of_alice.id}"):
            with refused(url_of(agent)) as channel:
                channel.basic_publish(exchange, "results", b"forged", mandatory=True)


def test_an_endpoint_declares_nothing(service: Service, mep: Manager) -> None:
    with refused(url_of(mep)) as channel:
        channel.queue_declare("mine")
    with refused(url_of(mep)) as channel:
        channel.exchange_declare("mine")
    with refused(url_of(mep)) as channel:
        channel.queue_bind("service.results", f"ep.{mep.id}", "anything")


def test_a_user_reads_no_results_but_its_own_and_writes_nothing(service: Service, mep: Manager) -> None:
    alice, _, group, _ = submitted(ALICE, mep)
    info, other = alice.get_result_amqp_url(), sdk_client(BOB).get_result_amqp_url()
    with refused(other["connection_url"]) as channel:
        channel.basic_consume(f"{info['queue_prefix']}{group}", print)
    with refused(other["connection_url"]) as channel:
        channel.basic_publish("", f"{info['queue_prefix']}{group}", b"forged", mandatory=True)
    with refused(info["connection_url"]) as channel:
        channel.basic_consume(mep.queue, print)


def test_credentials_are_those_of_one_endpoint_and_not_the_administrators(service: Service, mep: Manager) -> None:
    *_, of_alice = submitted(ALICE, mep)
    logins = {urlsplit(url).username for url in (service.urls()["url"], url_of(mep), url_of(of_alice))}
    passwords = {urlsplit(url).password for url in (service.urls()["url"], url_of(mep), url_of(of_alice))}
    assert len(logins) == len(passwords) == 3


def test_a_result_for_anothers_task_is_ignored(service: Service, mep: Manager) -> None:
    alice, task_id, _, of_alice = submitted(ALICE, mep)
    bob, task_of_bob, _, of_bob = submitted(BOB, mep)
    of_bob.send(Result(task_id=task_id, data="forged"))
    of_bob.run(of_bob.next_task()[1])
    assert result(bob, task_of_bob) == 7
    assert alice.get_task(task_id)["pending"]
    of_alice.run(of_alice.next_task()[1])
    assert result(alice, task_id) == 7


def test_a_notice_for_another_endpoint_is_ignored(service: Service, mep: Manager) -> None:
    alice, task_id, _, of_alice = submitted(ALICE, mep)
    bob, task_of_bob, _, of_bob = submitted(BOB, mep)
    forged = EPStatusReport(endpoint_id=of_alice.id, global_state={"error": "forged"}, task_statuses={})
    of_bob.publish("heartbeat_queue_info", forged)
    # Also where results belong, and results where notices belong.
    of_bob.publish("result_queue_info", forged)
    of_bob.publish("heartbeat_queue_info", Result(task_id=task_id, data="forged"))
    of_bob.run(of_bob.next_task()[1])
    assert result(bob, task_of_bob) == 7
    assert alice.get_task(task_id)["pending"]


NONSENSE = {
    "empty": b"",
    "version": b"\x02{}",
    "nothing": b"\x01",
    "list": b"\x01[]",
    "null": b"\x01null",
    "deep": b"\x01" + b"[" * 100_000,
    "binary": b"\xff" * 100,
    "number": b'\x01{"message_type": "ep_status_report", "data": {"global_state": {"heartbeat_period": %d}}}' % 10**400,
    "surrogate": b'\x01{"message_type": "result", "data": {"task_id": "x", "data": "\\ud800"}}',
}


@pytest.mark.parametrize("body", NONSENSE.values(), ids=NONSENSE.keys())
def test_a_message_that_is_nonsense_stops_nobody(service: Service, mep: Manager, body: bytes) -> None:
    bob, task_id, _, of_bob = submitted(BOB, mep)
    for key in ("results", "heartbeats"):
        of_bob.channel.basic_publish(f"ep.{of_bob.id}", key, body, mandatory=True)
    of_bob.run(of_bob.next_task()[1])
    assert result(bob, task_id) == 7


@pytest.mark.parametrize(
    "state",
    [
        '"heartbeat_period": NaN',
        '"heartbeat_period": 1e400',
        f'"heartbeat_period": {10**99}',
        '"heartbeat_period": "x"',
    ],
)
def test_a_heartbeat_that_is_nonsense_stops_nobody(service: Service, mep: Manager, state: str) -> None:
    bob, task_id, _, of_bob = submitted(BOB, mep)
    body = f'{{"endpoint_id": "{of_bob.id}", "global_state": {{{state}}}, "task_statuses": {{}}}}'
    message = f'\x01{{"message_type": "ep_status_report", "data": {body}}}'
    of_bob.channel.basic_publish(f"ep.{of_bob.id}", "heartbeats", message.encode(), mandatory=True)
    end = time.monotonic() + 180
    while bob.get_endpoint_status(of_bob.id)["status"] != "online" and time.monotonic() < end:
        time.sleep(0.05)
    assert bob.get_endpoint_status(of_bob.id)["status"] == "online"
    of_bob.run(of_bob.next_task()[1])
    assert result(bob, task_id) == 7


def test_a_notice_may_hold_any_text(service: Service, mep: Manager) -> None:
    alice, task_id, _, of_alice = submitted(ALICE, mep)
    body = f'{{"endpoint_id": "{of_alice.id}", "global_state": {{"error": "half \\ud800 <b>"}}, "task_statuses": {{}}}}'
    message = f'\x01{{"message_type": "ep_status_report", "data": {body}}}'
    of_alice.channel.basic_publish(f"ep.{of_alice.id}", "heartbeats", message.encode(), mandatory=True)
    with pytest.raises(Exception, match=r"half . <b>"):
        result(alice, task_id)


def result(client: Client, task_id: str) -> object:
    """A task's result, asked for until it is there."""
    end = time.monotonic() + 180
    while client.get_task(task_id)["pending"] and time.monotonic() < end:
        time.sleep(0.05)
    return client.get_result(task_id)
