"""The thread that receives results, where it can't: no future is left to wait for ever."""

import uuid
from types import SimpleNamespace

import pytest
from globus_compute_sdk import Client
from globus_compute_sdk.sdk.asynchronous.compute_future import ComputeFuture
from globus_sdk import AccessTokenAuthorizer
from twinlock_client.sdk import watcher
from twinlock_client.sdk.client import TextClient
from twinlock_client.sdk.watcher import SignedWatcher

SECONDS = 60.0
"""Seconds after which something is taken not to happen."""


@pytest.fixture
def client() -> TextClient:
    """A client of a service that names a queue without protection, at once."""
    made = TextClient(Client(do_version_check=False, authorizer=AccessTokenAuthorizer("a token")))
    answer = SimpleNamespace(data={"queue_prefix": "x.", "connection_url": "amqp://a:b@amqp.example.org/"})
    made._compute_web_client.v2.get_result_amqp_url = lambda: answer  # noqa: SLF001 - what comes from the network
    return made


def future() -> ComputeFuture:
    return ComputeFuture(str(uuid.uuid4()))


def test_futures_fail_with_the_reason(client: TextClient) -> None:
    """Also those of later batches, for which it is tried again."""
    group = uuid.uuid4()
    for _ in range(3):
        waiting, receiver = future(), watcher.of_group(group, client, None)
        assert receiver.watch_for_task_results(None, [waiting]) == 1
        assert "only amqps protects the way there" in str(waiting.exception(SECONDS))
        receiver.join(SECONDS)
        assert watcher.open_futures(group) == {}


def test_one_that_has_ended_takes_no_futures(client: TextClient) -> None:
    """The SDK then asks for another one."""
    receiver = watcher.of_group(uuid.uuid4(), client, None)
    receiver.watch_for_task_results(None, [future()])
    receiver.join(SECONDS)
    with pytest.raises(SignedWatcher.ShuttingDownError):
        receiver.watch_for_task_results(None, [future()])


def test_a_group_has_one_at_a_time(client: TextClient) -> None:
    """Before it has started as well."""
    group = uuid.uuid4()
    assert watcher.of_group(group, client, None) is watcher.of_group(group, client, None)
    assert watcher.of_group(uuid.uuid4(), client, None) is not watcher.of_group(group, client, None)
