"""The thread that receives results, where it can't: no future is left to wait for ever."""

import threading
import uuid
import warnings
from collections.abc import Callable
from concurrent.futures import wait
from types import SimpleNamespace
from typing import Any

import pytest
from globus_compute_sdk import Client
from globus_compute_sdk.sdk.asynchronous.compute_future import ComputeFuture
from globus_sdk import AccessTokenAuthorizer
from twinlock_client.sdk import endings, watcher
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


class StillSignedWatcher(SignedWatcher):
    """One that gets its messages from the test."""

    def start(self) -> None:
        """Connect to nothing."""

    def gets(self, task: str | None, headers: dict[str, Any], details: object = None) -> None:
        """Act as the SDK's loop does when a message has come."""
        message = SimpleNamespace(data="a text", is_error=False, details=details)
        self._received_results[task] = (SimpleNamespace(headers=headers), message)
        self._match_results_to_futures()


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


def test_a_cancelled_future_leaves_no_other_to_wait(client: TextClient) -> None:
    """The SDK fails the newest first."""
    goes_on, names_queue = threading.Event(), client.get_result_amqp_url

    def slow() -> Any:
        assert goes_on.wait(SECONDS)
        return names_queue()

    client.get_result_amqp_url = slow
    waiting, cancelled = future(), future()
    watcher.of_group(uuid.uuid4(), client, None).watch_for_task_results(None, [waiting, cancelled])
    assert cancelled.cancel()
    goes_on.set()
    assert "only amqps protects the way there" in str(waiting.exception(SECONDS))


def test_who_waits_for_a_cancelled_future_is_told(client: TextClient) -> None:
    """At the latest when its result comes."""
    came = future()
    endings.expect(came, lambda text, is_failure: text)
    receiver = StillSignedWatcher(uuid.uuid4(), client, None)
    receiver.watch_for_task_results(None, [came])
    assert came.cancel()
    receiver.gets(came.task_id, {})
    assert wait([came], SECONDS).done == {came}


def test_the_name_of_the_queue_has_no_control_characters(client: TextClient) -> None:
    """The SDK logs it when the connection fails."""
    said = {"queue_prefix": "x\x1b]0;owned\x07.", "connection_url": "amqp://a:b@localhost/"}
    client.get_result_amqp_url = lambda: said
    receiver = StillSignedWatcher(uuid.uuid4(), client, None)
    receiver._connect()  # noqa: SLF001 - as its thread does
    assert "qp=x]0;owned." in repr(receiver)


def test_two_futures_of_one_task(client: TextClient) -> None:
    """In one batch, or in two: there will be one result."""
    first, task = future(), str(uuid.uuid4())
    receiver = StillSignedWatcher(uuid.uuid4(), client, None)
    receiver.watch_for_task_results(None, [first])
    others = [ComputeFuture(first.task_id), ComputeFuture(task), ComputeFuture(task)]
    receiver.watch_for_task_results(None, others)
    assert [each.done() for each in (first, *others)] == [False, True, False, True]
    assert "gave the task no uuid of its own" in str(others[0].exception(0))
    assert receiver.watch_for_task_results(None, [first]) == 0
    assert not first.done()


def fails(tasks: list[str]) -> Any:
    raise ConnectionError("the service is away")


@pytest.mark.parametrize("answer", [fails, lambda tasks: SimpleNamespace(data={"results": {}})])
def test_results_that_are_announced_and_not_given(client: TextClient, answer: Callable[[list[str]], Any]) -> None:
    """Where the queue has only the names of tasks that have ended, as it is with high assurance."""
    client._compute_web_client.v2.get_task_batch = answer  # noqa: SLF001 - what comes from the network
    announced = future()
    endings.expect(announced, lambda text, is_failure: text)
    receiver = StillSignedWatcher(uuid.uuid4(), client, None)
    receiver.watch_for_task_results(None, [announced])
    receiver.gets(announced.task_id, {"high_assurance": True})
    assert "doesn't give its result" in str(announced.exception(SECONDS))


def test_other_versions_cost_no_result(client: TextClient) -> None:
    """Where warnings are errors, too."""
    came = future()
    endings.expect(came, lambda text, is_failure: text)
    receiver = StillSignedWatcher(uuid.uuid4(), client, None)
    receiver.watch_for_task_results(None, [came])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        receiver.gets(came.task_id, {}, details={"python_version": "3.1.0"})
    assert came.result(SECONDS) == "a text"
