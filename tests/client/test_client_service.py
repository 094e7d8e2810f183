"""Signed work through a real service and the real SDK; the test is the verified endpoint, and whoever is hostile."""

import logging
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pika
import pytest
from client_rig import ADA, VerifyingHost, enroll, signed_result
from globus_compute_common import messagepack
from globus_compute_common.messagepack.message_types import EPStatusReport, Result, ResultErrorDetails
from globus_compute_sdk import Executor, MPIFunction, ShellFunction
from globus_compute_sdk.errors import TaskExecutionFailed
from globus_compute_sdk.sdk.shell_function import ShellResult
from globus_compute_sdk.serialize import ComputeSerializer, JSONData
from nacl.signing import SigningKey
from rabbit_control import cut_user
from service_rig import (
    ALICE,
    IDENTITIES,
    PORT,
    TOKENS,
    Manager,
    Service,
    UserEndpoint,
    end_sdk,
    sdk_client,
    without_heartbeats,
)
from twinlock_client import ResultRefused, SignedExecutor, UnsignedFailure
from twinlock_client.sdk import watcher
from twinlock_signed.statement import digest
from yarl import URL

pytestmark = pytest.mark.system

RESULT = 180.0
"""Seconds after which a result is taken not to come."""


def double(value: Any, more: int = 0) -> Any:
    """A user's function."""
    return value * 2 + more


def fail() -> None:
    """A user's function that fails."""
    raise ValueError("no such molecule")


class Evil:
    """Whoever unpickles it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


class Site:
    """A verified endpoint behind the service, and a user of it."""

    def __init__(self, mep: Manager, key: Path) -> None:
        self.mep = mep
        self.key = key
        self._host = VerifyingHost.knowing(key, mep.id)
        self._executors: list[Executor] = []
        self._endpoints: list[UserEndpoint] = []

    def executor(self, **keywords: Any) -> SignedExecutor:
        """An executor of Ada's."""
        given = {"endpoint_id": self.mep.id, "client": sdk_client(ALICE), "user": str(ADA), "key": self.key, **keywords}
        SignedExecutor._signed_group = None  # noqa: SLF001 - of another test's service
        made = SignedExecutor(**given)
        self._executors.append(made)
        return made

    def plain(self, **keywords: Any) -> Executor:
        """An executor of the SDK's own."""
        self._executors.append(Executor(endpoint_id=self.mep.id, client=sdk_client(ALICE), **keywords))
        return self._executors[-1]

    def endpoint(self) -> UserEndpoint:
        """The user endpoint that the manager is asked for."""
        self._endpoints.append(self.mep.user_endpoint())
        return self._endpoints[-1]

    def arguments(self, endpoint: UserEndpoint) -> tuple[str, list[str]]:
        """The uuid of the next task, and its four texts."""
        _, task = endpoint.next_task()
        _, packed, named = ComputeSerializer.unpack_buffers(task.task_buffer)
        assert named == "11\n{}"
        return str(task.task_id), JSONData().deserialize(packed)

    def serve(self, endpoint: UserEndpoint) -> None:
        """Run the next task as a verified endpoint does."""
        task_id, texts = self.arguments(endpoint)
        self.say(endpoint, task_id, self._host.run(texts))

    def say(self, endpoint: UserEndpoint, task_id: str, text: str, *, is_failure: bool = False) -> None:
        """Send anything as a task's result."""
        details = ResultErrorDetails(code="RemoteExecutionError", user_message="") if is_failure else None
        endpoint.send(Result(task_id=task_id, data=text, error_details=details))

    def end(self) -> None:
        """End what still waits."""
        for endpoint in self._endpoints:
            endpoint.notice("the test is over")
            endpoint.close()
        for executor in self._executors:
            executor.shutdown(wait=False, cancel_futures=True)
        end_sdk()


@pytest.fixture
def site(mep: Manager, ada: Path) -> Iterator[Site]:
    """The site."""
    made = Site(mep, ada)
    yield made
    made.end()


def test_a_signed_task_runs_and_its_signed_result_comes_back(site: Site) -> None:
    enroll(site.mep.id)
    future = site.executor().submit(double, {1.5}.pop(), more=1)
    site.serve(site.endpoint())
    assert future.result(RESULT) == 4.0
    again = site.executor(serializer=ComputeSerializer()).submit(set, "abc")
    site.serve(site.endpoint())
    assert again.result(RESULT) == {"a", "b", "c"}, "which JSON can't say"


def test_what_is_signed_is_what_the_service_gets_told(site: Site) -> None:
    """The service needs the options to find the endpoint, and the broker to start it."""
    options = {"nodes": 2, "worker_init": "module load conda"}
    executor = site.executor(user_endpoint_config=options, resource_specification={"num_nodes": 2})
    executor.submit(double, 1)
    command = site.mep.command()[1]["kwargs"]
    endpoint = UserEndpoint(command["amqp_creds"])
    said, task = VerifyingHost.knowing(site.key, site.mep.id).accept(site.arguments(endpoint)[1])
    assert command["user_opts"] == said.user_endpoint_config == options
    assert command["user_runtime"] == said.user_runtime
    assert task.resource_specification == {"num_nodes": 2}
    endpoint.close()


def test_not_enrolled_results_are_json(site: Site) -> None:
    future = site.executor().submit(list, [1, None])
    site.serve(site.endpoint())
    assert future.result(RESULT) == [1, None]


@pytest.mark.parametrize("kind", [ShellFunction, MPIFunction])
def test_not_enrolled_a_shell_function_is_what_it_is(
    site: Site, kind: type[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though it comes as JSON. One that returns a dict by itself still does."""
    monkeypatch.setenv("PARSL_MPI_PREFIX", "env")
    executor = site.executor()
    futures = [executor.submit(kind("echo hello")), executor.submit(kind("echo hello", return_dict=True))]
    endpoint = site.endpoint()
    for _ in futures:
        site.serve(endpoint)
    shell = futures[0].result(RESULT)
    assert isinstance(shell, ShellResult)
    assert shell.stdout.splitlines()[-1] == futures[1].result(RESULT)["stdout"].splitlines()[-1] == "hello"


def test_enrolled_a_shell_function_comes_back_as_it_is(site: Site) -> None:
    enroll(site.mep.id)
    future = site.executor().submit(ShellFunction("echo {word}"), word="hello")
    site.serve(site.endpoint())
    assert future.result(RESULT).stdout == "hello\n"


@pytest.mark.parametrize("is_enrolled", [True, False])
def test_a_function_that_fails(site: Site, is_enrolled: bool) -> None:
    if is_enrolled:
        enroll(site.mep.id)
    future = site.executor().submit(fail)
    site.serve(site.endpoint())
    with pytest.raises(TaskExecutionFailed, match="no such molecule") as caught:
        future.result(RESULT)
    assert not isinstance(caught.value, UnsignedFailure)


def test_registered_functions_and_source(site: Site) -> None:
    executor = site.executor()
    function = executor.register_function(double)
    source = executor.register_source_code("def triple(value):\n    return value * 3\n", "triple")
    futures = [
        executor.submit_to_registered_function(function, (4,), {"more": 1}),
        executor.submit_to_registered_function(source, args=(4,)),
    ]
    endpoint = site.endpoint()
    for _ in futures:
        site.serve(endpoint)
    assert [future.result(RESULT) for future in futures] == [9, 12]


def test_many_tasks_have_one_delegation_and_each_its_number(site: Site) -> None:
    executor, host = site.executor(batch_size=16), VerifyingHost.knowing(site.key, site.mep.id)
    futures = [executor.submit(double, value) for value in range(40)]
    endpoint, accepted = site.endpoint(), []
    for _ in futures:
        task_id, texts = site.arguments(endpoint)
        accepted.append(host.accept(texts))
        site.say(endpoint, task_id, host.run(texts))
    assert [future.result(RESULT) for future in futures] == [2 * value for value in range(40)]
    assert len({said.id for said, _ in accepted}) == 1
    assert sorted(task.number for _, task in accepted) == list(range(40))


def test_a_plain_endpoint_says_that_it_does_not_verify(site: Site) -> None:
    """It runs what the service knows: a function that says so."""
    future = site.executor().submit(double, 1)
    endpoint = site.endpoint()
    _, task = endpoint.next_task()
    with pytest.raises(RuntimeError, match="doesn't verify signed work, so nothing was run") as said:
        endpoint.run(task)
    endpoint.fail(task, f"RuntimeError: {said.value}")
    with pytest.raises(UnsignedFailure, match="doesn't verify signed work"):
        future.result(RESULT)


def hostile(made: Path, task: str, other: str, manager: str) -> list[tuple[str, bool]]:
    """What whoever has the service may send instead of a result, and whether as a failure."""
    pickled = str(ComputeSerializer().serialize(Evil(made)))
    source = f"st\nevil:open({str(made)!r}, 'w')"
    wrong_key = signed_result(pickled, task, manager, key=SigningKey.generate())
    return [
        *((pickled, False), (source, False), (wrong_key, False), (JSONData().serialize(1), False)),
        *((signed_result(JSONData().serialize(1), other, manager), False), (pickled, True), (wrong_key, True)),
        (f"12\n{len(source)}\n{source}", False),
    ]


@pytest.mark.parametrize("is_enrolled", [True, False])
def test_hostile_results(site: Site, tmp_path: Path, is_enrolled: bool) -> None:
    """None of them runs, each ends its task with a reason, and the next task is served as ever."""
    if is_enrolled:
        enroll(site.mep.id)
    executor, made = site.executor(), tmp_path / "made"
    count = len(hostile(made, "0" * 64, "1" * 64, site.mep.id))
    futures = [executor.submit(double, value) for value in range(count + 1)]
    endpoint = site.endpoint()
    tasks = [site.arguments(endpoint) for _ in futures]
    digests = [digest(texts[2].encode()) for _, texts in tasks]
    for number in range(count):
        text, is_failure = hostile(made, digests[number], digests[-1], site.mep.id)[number]
        site.say(endpoint, tasks[number][0], text, is_failure=is_failure)
    site.say(endpoint, tasks[-1][0], VerifyingHost.knowing(site.key, site.mep.id).run(tasks[-1][1]))
    assert futures[-1].result(RESULT) == 2 * count
    by_task = {future.task_id: future for future in futures}
    for task_id, _ in tasks[:-1]:
        error = by_task[task_id].exception(RESULT)
        assert isinstance(error, (ResultRefused, UnsignedFailure)), error
    assert not made.exists()


def test_it_shares_nothing_with_a_plain_executor_of_the_same_group(site: Site, tmp_path: Path) -> None:
    """The service says which group a task is in, and plain executors unpickle what comes to theirs."""
    plain = site.plain()
    waiting = plain.submit(double, 1)
    endpoint = site.endpoint()
    endpoint.next_task()
    eventually(lambda: plain.task_group_id is not None)
    executor = site.executor(task_group_id=plain.task_group_id)
    pickled = str(ComputeSerializer().serialize(Evil(tmp_path / "made")))
    done = until_one_is_done(executor, lambda: site.say(endpoint, site.arguments(endpoint)[0], pickled))
    assert {type(future.exception()) for future in done} == {ResultRefused}
    assert not (tmp_path / "made").exists()
    assert not waiting.done()
    # Nor does the plain one get a watcher that expects signed results.
    done = until_one_is_done(plain, lambda: endpoint.run(endpoint.next_task()[1]))
    assert {future.exception() for future in done} == {None}


def until_one_is_done(executor: Executor, answer: Callable[[], None]) -> "set[Future[Any]]":
    """Submit and answer tasks until a future is done.

    Two receive from the queue of the group, in turn once both are there, and each ignores what isn't its own.
    """
    futures: list[Future[Any]] = []
    end = time.monotonic() + RESULT
    while time.monotonic() < end:
        futures.append(executor.submit(double, 1))
        answer()
        done, _ = wait(futures, 1, return_when="FIRST_COMPLETED")
        if done:
            return done
    raise TimeoutError("nothing was received")


def test_plain_executors_have_another_group(site: Site) -> None:
    """Whichever is there first."""
    signed = site.executor()
    future = signed.submit(double, 1)
    site.serve(site.endpoint())
    future.result(RESULT)
    plain = site.plain()
    assert plain.task_group_id is None
    plain.submit(double, 1)
    endpoint = site.endpoint()
    endpoint.fail(endpoint.next_task()[1], "it isn't run")
    eventually(lambda: plain.task_group_id is not None)
    assert signed.task_group_id is not None
    with SignedExecutor(site.mep.id, sdk_client(ALICE), user=str(ADA), key=site.key) as another:
        assert another.task_group_id == signed.task_group_id != plain.task_group_id


@pytest.mark.parametrize("url", ["amqp://a:b@amqp.example.org/", "http://a:b@localhost/"])
def test_a_queue_of_results_that_is_not_protected(site: Site, url: str) -> None:
    executor = site.executor()
    web = executor.client._compute_web_client.v2  # noqa: SLF001 - what it gets from the network

    answer = SimpleNamespace(data={"queue_prefix": "x.", "connection_url": url})
    web.get_result_amqp_url = lambda: answer
    future = executor.submit(double, 1)
    with pytest.raises(ValueError, match=r"queue of results: the service says .* only amqps protects"):
        future.result(RESULT)


def test_a_connection_that_ends_before_a_result_is_acknowledged(site: Site, service: Service) -> None:
    """RabbitMQ sends the result again, and it is matched."""
    executor = site.executor()
    first = executor.submit(double, 1)
    endpoint = site.endpoint()
    site.serve(endpoint)
    assert first.result(RESULT) == 2
    assert executor.task_group_id is not None
    receiver = watcher.of_group(executor.task_group_id, executor.client, None)
    receiver.poll_period_s = RESULT  # until it looks at what has come a third time
    second = executor.submit(double, 2)
    site.serve(endpoint)
    assert second.result(RESULT) == 4
    third = executor.submit(double, 3)
    site.serve(endpoint)
    eventually(lambda: "res=1" in repr(receiver))
    receiver.poll_period_s = 0.5
    login = URL(executor.client.get_result_amqp_url()["connection_url"])
    cut_user(service.urls()["management_url"], str(login.user))
    assert third.result(RESULT) == 6


def test_messages_that_are_no_results(site: Site, service: Service, caplog: pytest.LogCaptureFixture) -> None:
    """They are dropped with one line, and the results behind them come."""
    executor = site.executor()
    futures = [executor.submit(double, value) for value in (1, 2)]
    endpoint = site.endpoint()
    tasks = [site.arguments(endpoint) for _ in futures]
    eventually(lambda: executor.task_group_id is not None)
    queue = f"results.{IDENTITIES[ALICE]}.{executor.task_group_id}"
    report = EPStatusReport(endpoint_id=uuid.uuid4(), global_state={}, task_statuses={})
    with pika.BlockingConnection(without_heartbeats(service.urls()["url"])) as connection:
        channel = connection.channel()
        for body in [b"", b"junk", b"\xff" * 1000, messagepack.pack(report)] * 25:
            channel.basic_publish("", queue, body)
    host = VerifyingHost.knowing(site.key, site.mep.id)
    for task_id, texts in tasks:
        site.say(endpoint, task_id, host.run(texts))
    assert [future.result(RESULT) for future in futures] == [2, 4]
    [line] = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert "a message that is no result was dropped (ValueError; 1 so far)" in line


def reloaded(site: Site, group: Any) -> "dict[str, Future[Any]]":
    """The futures of a group in another process of Ada's, which has nothing but her home."""
    executor = site.executor()
    return {future.task_id: future for future in executor.reload_tasks(group)}


def two_tasks(site: Site) -> tuple[Any, UserEndpoint, list[tuple[str, list[str]]]]:
    """The group of two tasks whose executor is gone, and what the endpoint got."""
    executor = site.executor()
    futures = [executor.submit(double, value) for value in (1, 2)]
    endpoint = site.endpoint()
    tasks = [site.arguments(endpoint) for _ in futures]
    executor.shutdown(wait=False)
    # As the end of a process does: none of its threads waits for the results.
    executor._task_submitter.join()  # noqa: SLF001 - it hands the futures on
    end_sdk()
    return executor.task_group_id, endpoint, tasks


def test_tasks_are_reloaded(site: Site) -> None:
    """One that has its result, and one that gets it later."""
    enroll(site.mep.id)
    group, endpoint, tasks = two_tasks(site)
    host = VerifyingHost.knowing(site.key, site.mep.id)
    site.say(endpoint, tasks[0][0], host.run(tasks[0][1]))
    eventually(lambda: sdk_client(ALICE)._compute_web_client.v2.get_task(tasks[0][0])["status"] == "success")  # noqa: SLF001
    futures = reloaded(site, group)
    assert futures[tasks[0][0]].result(0) == 2
    site.say(endpoint, tasks[1][0], host.run(tasks[1][1]))
    assert futures[tasks[1][0]].result(RESULT) == 4


def test_results_that_the_service_has_swapped(site: Site) -> None:
    enroll(site.mep.id)
    group, endpoint, tasks = two_tasks(site)
    host = VerifyingHost.knowing(site.key, site.mep.id)
    site.say(endpoint, tasks[0][0], host.run(tasks[1][1]))
    eventually(lambda: sdk_client(ALICE)._compute_web_client.v2.get_task(tasks[0][0])["status"] == "success")  # noqa: SLF001
    futures = reloaded(site, group)
    site.say(endpoint, tasks[1][0], host.run(tasks[0][1]))
    for future in futures.values():
        with pytest.raises(ResultRefused, match="another task's"):
            future.result(RESULT)


def test_tasks_that_were_not_submitted_from_here(site: Site, home: Path) -> None:
    group, _, tasks = two_tasks(site)
    [record] = (home / ".local/state/twinlock-client/tasks").iterdir()
    record.unlink()
    for task, future in reloaded(site, group).items():
        with pytest.raises(ResultRefused, match=f"Task {task}: this computer has no record that it was submitted"):
            future.result(0)
    assert len(tasks) == 2


def eventually(holds: Callable[[], bool]) -> None:
    """Waits until something holds that the test can only ask for."""
    end = time.monotonic() + RESULT
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


SCRIPT = """
import sys
from globus_compute_sdk import Client
from globus_compute_sdk.sdk.client import _ComputeWebClient
from globus_sdk import AccessTokenAuthorizer
from twinlock_client import SignedExecutor

def where_am_i(name):
    return f"{name} is here"

authorizer = AccessTokenAuthorizer(sys.argv[1])
client = Client(local_compute_services=True, authorizer=authorizer, do_version_check=False)
client._compute_web_client = _ComputeWebClient(base_url=sys.argv[2], authorizer=authorizer)
executor = SignedExecutor(sys.argv[3], client, user="ada@cluster.example.org", key=sys.argv[4])
executor.submit(where_am_i, "Ada").add_done_callback(lambda future: print(future.result()))
"""


def test_a_program_ends_when_its_results_have_come(site: Site, tmp_path: Path) -> None:
    """Not before, though it waits for none; and then at once."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    argv = [sys.executable, script, TOKENS[ALICE], f"http://127.0.0.1:{PORT}", site.mep.id, site.key]
    client = Path(sys.modules["twinlock_client"].__file__ or "").parent.parent
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(client)}
    ) as ran:
        endpoint = site.endpoint()
        task_id, texts = site.arguments(endpoint)
        assert ran.poll() is None
        site.say(endpoint, task_id, VerifyingHost.knowing(site.key, site.mep.id).run(texts))
        printed, _ = ran.communicate(timeout=RESULT)
    assert (ran.returncode, printed) == (0, "Ada is here\n")
