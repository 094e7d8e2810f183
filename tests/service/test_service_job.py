"""The service at work: the official SDK on one side, the test as manager and user endpoint on the other."""

import json
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from globus_compute_sdk import Client, Executor
from globus_compute_sdk.errors import TaskExecutionFailed
from globus_sdk import GlobusAPIError
from pika.exceptions import AMQPError
from service_rig import (
    ALICE,
    BOB,
    IDENTITIES,
    TOKENS,
    URL,
    Agent,
    Manager,
    UserEndpoint,
    bearer,
    end_sdk,
    manager,
    manager_clients,
    sdk_client,
)

pytestmark = pytest.mark.system

RESULT = 180.0
"""Seconds after which a result is taken not to come."""


def double(value: Any) -> Any:
    """A user's function."""
    return value * 2


class Submissions:
    """What users submit during a test, and the endpoints that were started for it."""

    def __init__(self) -> None:
        self._executors: list[Executor] = []
        self._endpoints: list[UserEndpoint] = []

    def submit(self, who: str, endpoint: Agent, argument: Any = 21, **options: Any) -> "Future[Any]":
        """Submits a task as the SDK does."""
        executor = Executor(endpoint_id=endpoint.id, client=sdk_client(who), **options)
        # Executors share the last task group of the process, which may be another user's.
        Executor._default_task_group_id = None  # noqa: SLF001 - the SDK keeps it for the process
        executor.task_group_id = None
        self._executors.append(executor)
        future: Future[Any] = executor.submit(double, argument)
        return future

    def start(self, who: str, mep: Manager, **config: Any) -> tuple["Future[Any]", UserEndpoint]:
        """Submits a task and starts the user endpoint that the manager is asked for."""
        future = self.submit(who, mep, user_endpoint_config=config)
        endpoint = mep.user_endpoint()
        self._endpoints.append(endpoint)
        return future, endpoint

    def end(self) -> None:
        """Ends what still waits: the SDK watches futures until they have a result."""
        for endpoint in self._endpoints:
            with suppress(AMQPError):
                endpoint.notice("the test is over")
            endpoint.close()
        for executor in self._executors:
            executor.shutdown(wait=False, cancel_futures=True)
        end_sdk()


@pytest.fixture
def users() -> Iterator[Submissions]:
    """Users who submit."""
    submissions = Submissions()
    yield submissions
    submissions.end()


def status(endpoint: str, who: str = ALICE) -> str:
    """What the service says of an endpoint."""
    return str(sdk_client(who).get_endpoint_status(endpoint)["status"])


@contextmanager
def refused(status: int) -> Iterator[None]:
    """The service refuses a call."""
    with pytest.raises(GlobusAPIError) as caught:
        yield
    assert caught.value.http_status == status
    assert caught.value.raw_json
    assert caught.value.raw_json["reason"]


def test_a_task_runs_where_the_manager_was_asked_to_start_an_endpoint(mep: Manager, users: Submissions) -> None:
    before = time.time()
    future = users.submit(
        ALICE, mep, user_endpoint_config={"account_id": "a1"}, resource_specification={"num_nodes": 2}
    )
    properties, command = mep.command()
    endpoint = UserEndpoint(command["kwargs"]["amqp_creds"])
    headers, task = endpoint.next_task()
    endpoint.run(task)
    assert future.result(RESULT) == 42

    assert properties.content_type == "application/json"
    assert before - 1 <= properties.timestamp <= time.time() + 1
    assert command["command"] == "cmd_start_endpoint"
    assert command["kwargs"]["name"] == f"uep.{mep.id}.{endpoint.id}"
    assert command["kwargs"]["user_opts"] == {"account_id": "a1"}
    assert command["kwargs"]["user_runtime"]["globus_compute_sdk_version"].startswith("4.")
    assert command["globus_username"] == ALICE
    assert command["globus_effective_identity"] == IDENTITIES[ALICE]
    assert [each["sub"] for each in command["globus_identity_set"]] == [IDENTITIES[ALICE]]
    assert headers["task_uuid"] == str(task.task_id)
    assert json.loads(headers["resource_specification"]) == {"num_nodes": 2}
    endpoint.close()


def test_each_configuration_of_each_user_has_an_endpoint_of_its_own(mep: Manager, users: Submissions) -> None:
    _, first = users.start(ALICE, mep, account="x", walltime=1)
    _, same = users.start(ALICE, mep, walltime=1, account="x")
    _, other = users.start(ALICE, mep, account="y", walltime=1)
    _, of_bob = users.start(BOB, mep, account="x", walltime=1)
    assert first.id == same.id
    assert len({first.id, other.id, of_bob.id, mep.id}) == 4


def test_an_error_of_the_task_is_the_exception_of_the_future(mep: Manager, users: Submissions) -> None:
    future, endpoint = users.start(ALICE, mep)
    endpoint.fail(endpoint.next_task()[1], "ZeroDivisionError: by zero")
    with pytest.raises(TaskExecutionFailed, match="ZeroDivisionError: by zero"):
        future.result(RESULT)


def test_a_failed_start_is_the_exception_of_every_future_that_waits(mep: Manager, users: Submissions) -> None:
    futures = [users.start(ALICE, mep)[0], users.start(ALICE, mep)[0]]
    other, bystander = users.start(BOB, mep)
    _, endpoint = users.start(ALICE, mep)
    endpoint.notice("no user \u201cgh\u00f6st\u201d here\nask your administrator")
    for future in futures:
        error = future.exception(RESULT)
        assert isinstance(error, TaskExecutionFailed)
        assert error.remote_data == "no user \u201cgh\u00f6st\u201d here\nask your administrator"
    assert status(endpoint.id) == "offline"
    bystander.run(bystander.next_task()[1])
    assert other.result(RESULT) == 42


def test_tasks_that_a_failed_start_ended_do_not_run_later(mep: Manager, users: Submissions) -> None:
    failed, endpoint = users.start(ALICE, mep)
    endpoint.notice("not yet")
    assert failed.exception(RESULT)
    future, _ = users.start(ALICE, mep)
    headers, task = endpoint.next_task()
    endpoint.run(task)
    assert future.result(RESULT) == 42
    assert headers["task_uuid"] == future.task_id  # type: ignore[attr-defined]  # the SDK's future, which has it by now


def test_an_argument_of_ten_mebibytes_arrives(mep: Manager, users: Submissions) -> None:
    argument = b"\xff" * (10 * 1024 * 1024)
    future = users.submit(ALICE, mep, argument)
    endpoint = mep.user_endpoint()
    _, task = endpoint.next_task()
    assert argument.hex() not in task.task_buffer
    endpoint.run(task)
    assert len(future.result(RESULT)) == 2 * len(argument)
    endpoint.close()


def test_results_can_be_fetched_without_a_queue(mep: Manager) -> None:
    client = sdk_client(ALICE)
    task_id = client.run(4, endpoint_id=mep.id, function_id=client.register_function(double))
    assert client.get_task(task_id)["pending"] is True
    endpoint = mep.user_endpoint()
    endpoint.run(endpoint.next_task()[1])
    assert wait_for_result(client, task_id) == 8
    with refused(404):
        sdk_client(BOB).get_task(task_id)
    endpoint.close()


def wait_for_result(client: Client, task_id: str) -> Any:
    """A task's result, asked for again and again."""
    end = time.monotonic() + RESULT
    while client.get_task(task_id)["pending"] and time.monotonic() < end:
        time.sleep(0.05)
    return client.get_result(task_id)


def test_source_text_runs_as_a_function(mep: Manager) -> None:
    client = sdk_client(ALICE)
    function = client.register_source_code("def triple(x):\n    return x * 3\n", "triple")
    task_id = client.run(5, endpoint_id=mep.id, function_id=function)
    endpoint = mep.user_endpoint()
    endpoint.run(endpoint.next_task()[1])
    assert wait_for_result(client, task_id) == 15
    endpoint.close()


def test_a_result_counts_only_once(mep: Manager, users: Submissions) -> None:
    future, endpoint = users.start(ALICE, mep)
    _, task = endpoint.next_task()
    endpoint.run(task)
    assert future.result(RESULT) == 42
    endpoint.fail(task, "an afterthought")
    second, _ = users.start(ALICE, mep)
    endpoint.run(endpoint.next_task()[1])
    assert second.result(RESULT) == 42
    assert sdk_client(ALICE).get_result(task.task_id) == 42


def test_heartbeats_say_whether_an_endpoint_is_online(mep: Manager, users: Submissions) -> None:
    _, endpoint = users.start(ALICE, mep)
    assert status(endpoint.id) == "offline"
    for state, expected in (({"heartbeat_period": 30}, "online"), ({"heartbeat_period": 0}, "offline")):
        endpoint.heartbeat(**state)
        assert settles(endpoint.id, expected), state
    endpoint.heartbeat(heartbeat_period=30, active=True)
    assert settles(endpoint.id, "online")
    endpoint.heartbeat(heartbeat_period=30, active=False)
    assert settles(endpoint.id, "offline")


def settles(endpoint: str, expected: str) -> bool:
    """Whether an endpoint's status becomes what is expected."""
    end = time.monotonic() + RESULT
    while status(endpoint) != expected:
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def test_a_single_user_endpoint_gets_its_owners_tasks_directly(mep: Manager, users: Submissions) -> None:
    with manager(multi_user=False) as single:
        endpoint = UserEndpoint(single.credentials)
        with refused(404):
            sdk_client(ALICE).get_endpoint_status(single.id)
        future = users.submit(ALICE, single)
        assert isinstance(future.exception(RESULT), GlobusAPIError)
        v2, v3 = manager_clients()
        function = v3.register_function({"function_name": "f", "function_code": "1\nf"})["function_uuid"]
        answer = v3.submit(single.id, {"tasks": {function: ["1\na1\nk"]}})
        assert endpoint.next_task()[1].task_buffer == "1\nf1\na1\nk"
        assert v2.get_task(answer["tasks"][function][0])["status"] == "waiting-for-ep"
        endpoint.close()


def test_a_deleted_endpoint_ends_what_it_owes(service: object, users: Submissions) -> None:
    with manager() as agent:
        future, endpoint = users.start(ALICE, agent)
        with refused(403):
            sdk_client(ALICE).delete_endpoint(agent.id)
        manager_clients()[0].delete_endpoint(agent.id)
        with pytest.raises(TaskExecutionFailed, match="deleted"):
            future.result(RESULT)
        for each in (agent.id, endpoint.id):
            with refused(404):
                sdk_client(ALICE).get_endpoint_status(each)


def test_a_stopped_endpoint_loses_its_connection_and_can_not_register_at_once(mep: Manager) -> None:
    manager_clients()[1].lock_endpoint(mep.id)
    with refused(423):  # first, since it is only for half a minute
        manager_clients()[1].update_endpoint(mep.id, {"endpoint_name": "mep", "multi_user": True})
    with pytest.raises(Exception, match=r"(?i)closed|connection"):
        mep.receive(mep.queue)


def test_an_endpoint_keeps_its_uuid_when_it_registers_again(mep: Manager) -> None:
    again = manager_clients()[1].update_endpoint(mep.id, {"endpoint_name": "renamed", "multi_user": True})
    assert again["endpoint_id"] == mep.id
    assert sdk_client(ALICE).get_endpoint_metadata(mep.id)["name"] == "renamed"


def test_a_function_that_an_endpoint_does_not_allow_is_refused(service: object, users: Submissions) -> None:
    allowed = sdk_client(ALICE).register_function(double)
    with manager(allowed_functions=[allowed]) as agent:
        assert sdk_client(ALICE).get_allowed_functions(agent.id)["functions"] == [allowed]
        error = users.submit(ALICE, agent).exception(RESULT)
        assert "not permitted on endpoint" in str(error)


def test_the_page_shows_what_there_is_but_no_data(mep: Manager, users: Submissions) -> None:
    _, endpoint = users.start(ALICE, mep, secret="hush-hush")
    _, task = endpoint.next_task()
    with urllib.request.urlopen(urllib.request.Request(URL, headers=bearer(TOKENS[ALICE]))) as answer:
        page = answer.read().decode()
    for shown in (mep.id, endpoint.id, ALICE, str(task.task_id)):
        assert shown in page
    assert "hush-hush" not in page
