"""The smoke tests that the SDK's authors have, through the SDK's Executor and through `SignedExecutor`.

Each has a real endpoint behind the service, a plain one or a verified one. What signing rules out is at the end, and in
docs/verified.md.
"""

import json
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import as_completed
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from client_site import Account
from globus_compute_sdk import Client, Executor
from globus_compute_sdk.errors import TaskExecutionFailed
from globus_compute_sdk.serialize import ComputeSerializer, PureSourceTextInspect
from service_rig import ALICE, Service, end_sdk, manager, sdk_client
from site_rig import eventually
from twinlock_client import Refused, SignedExecutor
from verified_rig import USER

pytestmark = pytest.mark.system

RESULT = 180.0
"""Seconds after which a result is taken not to come."""


def say_hello() -> str:
    return "Hello World!"


def ohai() -> str:
    import time

    time.sleep(0.9)
    return "ohai"


def double(number: int) -> int:
    return number * 2


def large_result(size: int) -> bytearray:
    return bytearray(size)


def large_argument(data: bytearray) -> int:
    return len(data)


class Site:
    """An endpoint of one kind, and its user."""

    def __init__(self, account: Account, *, is_signed: bool) -> None:
        self.account = account
        self.is_signed = is_signed
        self.endpoint_id = ""
        """The user endpoint's uuid."""

    def executor(self) -> Executor:
        """A new executor, with a task group of its own."""
        given: dict[str, Any] = {"endpoint_id": self.account.mep.id, "client": sdk_client(ALICE)}
        # The endpoint can't import a test's own functions.
        given["serializer"] = ComputeSerializer(strategy_code=PureSourceTextInspect())
        if not self.is_signed:
            return Executor(**given)
        SignedExecutor._signed_group = None  # noqa: SLF001 - of an earlier test
        return SignedExecutor(**given, user=USER, key=self.account.host.keys["user"])


def running(service: Service, *, is_signed: bool) -> Iterator[Site]:
    """A site whose endpoint has run a task."""
    folder = Path(tempfile.mkdtemp(prefix="client-smoke-", dir="/tmp"))
    laptop = Path(tempfile.mkdtemp(prefix="client-smoke-"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        stack.callback(shutil.rmtree, laptop)
        made = Site(Account(folder, stack.enter_context(manager())), is_signed=is_signed)
        with pytest.MonkeyPatch.context() as there:
            there.setenv("HOME", str(laptop))
            executor = made.executor()
            first = executor.submit(say_hello)
            made.endpoint_id = stack.enter_context(made.account.endpoint(is_verified=is_signed))
            assert first.result(RESULT) == "Hello World!"
            executor.shutdown()
            end_sdk()
        yield made


@pytest.fixture(scope="module")
def signed(service: Service) -> Iterator[Site]:
    """A site with a verified endpoint."""
    yield from running(service, is_signed=True)


@pytest.fixture(scope="module")
def plain(service: Service) -> Iterator[Site]:
    """A site with a plain endpoint."""
    yield from running(service, is_signed=False)


@pytest.fixture(params=["plain", "signed"])
def site(request: pytest.FixtureRequest) -> Site:
    """Either site; at the verified one the user has enrolled."""
    found: Site = request.getfixturevalue(request.param)
    if found.is_signed:
        found.account.enroll()
    return found


@pytest.fixture(autouse=True)
def end() -> Iterator[None]:
    """End the SDK's threads after each test."""
    yield
    end_sdk()


@pytest.fixture
def executor(site: Site) -> Iterator[Executor]:
    """A new executor of either kind."""
    made = site.executor()
    yield made
    made.shutdown(wait=False, cancel_futures=True)


def test_service_and_endpoint_are_there(site: Site, executor: Executor) -> None:
    executor.client.version_check()
    assert eventually(lambda: executor.client.get_endpoint_status(site.endpoint_id)["status"] == "online", RESULT)


def test_a_function_that_was_registered(executor: Executor) -> None:
    function = executor.register_function(say_hello)
    assert str(uuid.UUID(function)) == function
    assert executor.submit_to_registered_function(function).result(RESULT) == "Hello World!"


def test_a_function_that_takes_its_time(executor: Executor) -> None:
    assert executor.submit(ohai).result(RESULT) == "ohai"


def test_a_batch(executor: Executor) -> None:
    futures = [executor.submit(double, number) for number in range(10)]
    assert sum(future.result(RESULT) for future in futures) == 2 * sum(range(10))


def test_an_executor_is_used_again_and_its_tasks_are_reloaded(executor: Executor) -> None:
    function = executor.register_function(say_hello)
    for _ in range(2):
        futures = [executor.submit_to_registered_function(function) for _ in range(10)]
        assert [future.result() for future in as_completed(futures, RESULT)] == ["Hello World!"] * 10
    futures = list(executor.reload_tasks())
    assert [future.result() for future in as_completed(futures, RESULT)] == ["Hello World!"] * 20


SIZES = (200, 2_000, 20_000, 200_000)
"""Bytes that a result or an argument has to be able to have."""


def test_sizes_of_results(executor: Executor) -> None:
    futures = [executor.submit(large_result, size) for size in SIZES]
    assert [len(future.result(RESULT)) for future in futures] == [*SIZES]


def test_sizes_of_arguments(executor: Executor) -> None:
    futures = [executor.submit(large_argument, bytearray(size)) for size in SIZES]
    assert [future.result(RESULT) for future in futures] == [*SIZES]


def test_a_result_that_is_too_large(executor: Executor) -> None:
    with pytest.raises(TaskExecutionFailed) as caught:
        executor.submit(large_result, 11 << 20).result(RESULT)
    assert "MaxResultSizeExceeded" in caught.value.remote_data


# What signing rules out.


def result(client: Client, task: str) -> Any:
    """What the SDK's client makes of a task's result."""
    end = time.monotonic() + RESULT
    while client.get_task(task)["pending"]:
        assert time.monotonic() < end
        time.sleep(0.1)
    return client.get_result(task)


def test_tasks_that_the_sdks_client_submits(signed: Site) -> None:
    """They aren't signed, so nothing runs, and the error names what to change."""
    client = sdk_client(ALICE)
    manager_id = signed.account.mep.id
    function = client.register_function(double)
    batch = client.create_batch()
    batch.add(function, args=(2,))
    submitted = client.batch_run(manager_id, batch)
    tasks = [client.run(1, endpoint_id=manager_id, function_id=function)]
    tasks += [task for found in submitted["tasks"].values() for task in found]
    assert len(tasks) == 2
    for task in tasks:
        with pytest.raises(TaskExecutionFailed, match=r"(?s)isn't signed.*pip install twinlock-client"):
            result(client, task)


def test_functions_whose_code_the_service_has(signed: Site) -> None:
    function = sdk_client(ALICE).register_function(say_hello, public=True)
    executor = signed.executor()
    with pytest.raises(Refused, match="only the service knows its code"):
        executor.submit_to_registered_function(function)
    with pytest.raises(Refused, match="so nobody can share them"):
        executor.register_function(say_hello, public=True)
    executor.shutdown()


def test_results_that_the_sdks_client_asks_for(signed: Site) -> None:
    """It gets the two texts, which it can't check."""
    executor = signed.executor()
    future = executor.submit(double, 2)
    assert future.result(RESULT) == 4
    executor.shutdown()
    statement, _ = result(sdk_client(ALICE), future.task_id)
    assert json.loads(json.loads(statement)["data"].partition("\n")[2]) == 4
