"""What `SignedExecutor` refuses before anything reaches the service, which isn't there in these tests."""

import inspect
import json
import threading
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from client_rig import ADA, enroll
from globus_compute_sdk import Client, Executor, MPIFunction, ShellFunction
from globus_compute_sdk.errors import TaskExecutionFailed, TaskPending
from globus_compute_sdk.sdk.asynchronous.compute_future import ComputeFuture
from globus_compute_sdk.serialize import ComputeSerializer, DillDataBase64, JSONData
from globus_sdk import AccessTokenAuthorizer
from signed_rig import HOUR, MANAGER
from twinlock_client import SignedExecutor, delegations, ssh_keys
from twinlock_client.sdk import watcher
from twinlock_signed.errors import Refused

SECONDS = 60.0
"""Seconds after which something is taken not to happen."""

UNPROTECTED = {"queue_prefix": "x.", "connection_url": "amqp://a:b@amqp.example.org/"}
"""A queue of results that isn't used."""


def offline() -> Client:
    """A client that can reach no service."""
    return Client(do_version_check=False, authorizer=AccessTokenAuthorizer("a token"))


class Executors:
    """Makes executors, and ends them."""

    def __init__(self, key: Path) -> None:
        self._key = key
        self._made: list[SignedExecutor] = []

    def make(self, **keywords: Any) -> SignedExecutor:
        given = {"endpoint_id": MANAGER, "client": offline(), "user": str(ADA), "key": self._key, **keywords}
        self._made.append(SignedExecutor(**given))
        return self._made[-1]

    def end(self) -> None:
        for executor in self._made:
            executor.shutdown(wait=False, cancel_futures=True)


@pytest.fixture
def executors(ada: Path) -> Iterator[Executors]:
    made = Executors(ada)
    yield made
    made.end()


def give(value: Any) -> Any:
    """A user's function."""
    return value


def test_it_has_all_that_the_sdks_has() -> None:
    """Under the same names, in the same order where the order counts."""
    theirs = list(inspect.signature(Executor.__init__).parameters)
    ours = list(inspect.signature(SignedExecutor.__init__).parameters)
    assert ours[:4] == theirs[:4]
    assert {name for name in dir(Executor) if not name.startswith("_")} <= set(dir(SignedExecutor))
    for name in ("submit", "submit_to_registered_function", "register_source_code", "reload_tasks", "shutdown"):
        assert (
            inspect.signature(getattr(SignedExecutor, name)).parameters.keys()
            == inspect.signature(getattr(Executor, name)).parameters.keys()
        )


def test_the_settings_of_the_sdks_executor(executors: Executors) -> None:
    executor = executors.make(label="mine", batch_size=7, amqp_port=443, resource_specification={"num_nodes": 2})
    assert (executor.label, executor.batch_size, executor.amqp_port) == ("mine", 7, 443)
    assert executor.resource_specification == {"num_nodes": 2}
    with pytest.raises(TypeError, match="'colour' is an invalid argument"):
        executors.make(colour="blue")


@pytest.mark.parametrize(
    ("user", "reason"),
    [
        (None, "user: it isn't given; give the account and its site"),
        ("ada", "user 'ada': it is not an account and a site"),
        ("ada@Cluster.example.org", "in small letters"),
        ("-ada@cluster.example.org", "it is not an account and a site"),
        ("a,b@cluster.example.org", "it is not an account and a site"),
        ("ada@cluster.example.org\n", "it is not an account and a site"),
    ],
)
def test_who_it_is_for(executors: Executors, user: str | None, reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        executors.make(user=user)


@pytest.mark.parametrize("name", ["delegation_lifetime", "task_lifetime"])
@pytest.mark.parametrize("seconds", [0, -1, 1.5, True, "60"])
def test_times_that_are_none(executors: Executors, name: str, seconds: Any) -> None:
    with pytest.raises(Refused, match=f"{name} .*: it is not a whole number of seconds, 1 or more"):
        executors.make(**{name: seconds})


def test_functions_that_were_not_registered_here(executors: Executors) -> None:
    """Their code would be what the service says."""
    executor = executors.make()
    with pytest.raises(Refused, match=r"hasn't registered it, so only the service knows its code"):
        executor.submit_to_registered_function("b0a5d1a0-2b22-4381-b899-ba73321e41e0", (1,))


def test_registering_needs_no_service(executors: Executors) -> None:
    executor = executors.make()
    assert executor.register_function(give) != executor.register_source_code("def f(): pass", "f")
    with pytest.raises(ValueError, match="already registered"):
        executor.register_function(give)
    with pytest.raises(ValueError, match="already registered"):
        executor.register_source_code("def f(): pass", "f")


def test_a_uuid_is_of_one_function(executors: Executors) -> None:
    executor = executors.make()
    chosen = "b0a5d1a0-2b22-4381-b899-ba73321e41e0"
    assert executor.register_function(give, chosen) == chosen
    with pytest.raises(Refused, match="it is another function's"):
        executor.register_function(len, chosen)


@pytest.mark.parametrize("shared", [{"public": True}, {"group": MANAGER}, {"ha_endpoint_id": MANAGER}])
def test_nobody_else_can_use_a_function(executors: Executors, shared: dict[str, Any]) -> None:
    executor = executors.make()
    with pytest.raises(Refused, match=f"{next(iter(shared))}: signed functions aren't registered with the service"):
        executor.register_function(give, **shared)
    with pytest.raises(Refused, match="signed functions"):
        executor.register_source_code("def f(): pass", "f", **shared)


@pytest.mark.parametrize("size", [2_400_000, 11_000_000])
def test_a_task_that_is_too_large(executors: Executors, size: int) -> None:
    """The smaller one is so in the form in which it travels: each quotation mark is eight characters there."""
    executor = executors.make(serializer=ComputeSerializer(strategy_data=JSONData()))
    with pytest.raises(Refused, match=r"The task has [\d,]+ bytes.*(pass the path of a file|send less)"):
        executor.submit(give, '"' * size)


def test_not_enrolled_only_json_is_asked_for(executors: Executors) -> None:
    executor = executors.make(result_serializers=[DillDataBase64(), JSONData()])
    with pytest.raises(Refused, match=f"only JSON is read; use JSONData, or enroll .*enroll {ADA} {MANAGER}"):
        executor.submit(give, 1)


class Named(ShellFunction):  # type: ignore[misc]  # the SDK has no types
    """A kind that runs as the SDK's does."""


class Output(ShellFunction):  # type: ignore[misc]  # the SDK has no types
    """A kind that returns something else than a `ShellResult`."""

    def __call__(self, **kwargs: Any) -> Any:
        return super().__call__(**kwargs).stdout


class Launched(MPIFunction):  # type: ignore[misc]  # the SDK has no types
    """A kind that might."""

    def execute_cmd_line(self, cmd: str) -> Any:
        return super().execute_cmd_line(f"nice {cmd}")


def test_kinds_of_shell_functions(executors: Executors) -> None:
    """Not enrolled, the SDK's are made to return dicts; what others make of that, nobody can tell."""

    def submit(function: ShellFunction) -> None:
        executor = executors.make()  # another one, since the answer ends it
        executor.client.register_source_code = lambda *_: str(uuid.uuid4())
        executor.client.batch_run = lambda *_: {}
        executor.submit(function)

    for known in (ShellFunction, MPIFunction, Named):
        submit(known("true"))
    for kind in (Output, Launched):
        with pytest.raises(Refused, match=rf"{kind.__name__}: .* give it return_dict=True, or enroll .*{MANAGER}"):
            submit(kind("true"))
        submit(kind("true", return_dict=True))
    enroll()
    submit(Output("true"))


def test_a_damaged_list_of_enrolled_keys_is_not_taken_for_none(executors: Executors, home: Path) -> None:
    enroll()
    place = home / ".config/twinlock-client/enrolled"
    place.write_text(place.read_text()[:-9])
    with pytest.raises(Refused, match="enrolled: line 1 is not an account, an endpoint and a key"):
        executors.make().submit(give, 1)


def test_no_endpoint(executors: Executors) -> None:
    with pytest.raises(ValueError, match="No endpoint_id set"):
        executors.make(endpoint_id=None).submit(give, 1)


def test_after_its_end(executors: Executors) -> None:
    executor = executors.make()
    executor.shutdown()
    for act in (lambda: executor.submit(give, 1), lambda: executor.register_function(give)):
        with pytest.raises(RuntimeError, match="is shutdown"):
            act()


def test_a_cancelled_task_is_not_waited_for(executors: Executors) -> None:
    """Its result may come in hours, or never."""
    group, goes_on = uuid.uuid4(), threading.Event()
    executor = executors.make(task_group_id=group)
    executor.client.get_result_amqp_url = lambda: goes_on.wait(SECONDS) and UNPROTECTED
    cancelled = ComputeFuture(str(uuid.uuid4()))
    watcher.of_group(group, executor.client, None).watch_for_task_results(executor, [cancelled])
    assert cancelled.cancel()
    ends = threading.Thread(target=executor.shutdown, daemon=True)
    ends.start()
    ends.join(SECONDS / 2)
    assert not ends.is_alive()
    goes_on.set()


@pytest.mark.parametrize("tasks", [[["a"]], [{}], [None], [""], ["one", "two"], None, 7])
@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_answers_that_name_no_task(executors: Executors, tasks: Any) -> None:
    """The task may have run, but nobody can say which result will be its."""
    executor, function = executors.make(), str(uuid.uuid4())
    executor.client.register_source_code = lambda *_: function
    answer = {name: str(uuid.uuid4()) for name in ("task_group_id", "request_id", "endpoint_id")}
    executor.client.batch_run = lambda *_: answer | {"tasks": {function: tasks}}
    assert executor.submit(give, 1).exception(SECONDS) is not None


def test_a_serializer_that_is_none(executors: Executors) -> None:
    executor = executors.make()
    with pytest.raises(TypeError, match="give a ComputeSerializer"):
        executor.serializer = JSONData()


def test_the_client_of_another_executor(executors: Executors) -> None:
    """Its login is used; its serializer packs nothing but JSON and source text."""
    executor = executors.make(client=executors.make().client)
    assert executor.serializer.deserialize(executor.serializer.serialize({1})) == {1}
    assert executor.register_function(len)
    with pytest.raises(Exception, match="could run code here"):
        executor.client.fx_serializer.deserialize(executor.serializer.serialize({1}))


def test_arguments_that_can_not_be_packed_end_nothing(executors: Executors) -> None:
    """The SDK's executor ends over it, and says why in its log only."""
    executor = executors.make()
    for _ in range(2):
        with pytest.raises(Exception, match="serialization strategy"):
            executor.submit(give, (each for each in "ab"))


@pytest.fixture
def delegation(ada: Path, tmp_path: Path) -> Path:
    """A delegation's file."""
    path = tmp_path / "delegation"
    delegations.save(delegations.make(ADA, MANAGER, {"nodes": 2}, {}, HOUR, ssh_keys.choose(ada)), path)
    return path


def test_a_delegations_file_says_endpoint_options_and_user(executors: Executors, delegation: Path) -> None:
    executor = executors.make(endpoint_id=None, user=None, key=None, delegation=delegation)
    assert (str(executor.endpoint_id), executor.user_endpoint_config) == (MANAGER, {"nodes": 2})
    executor.user_endpoint_config = {"nodes": 3}
    with pytest.raises(Refused, match=r'with the options {"nodes": 2}'):
        executor.submit(give, 1)
    with pytest.raises(Refused, match="another session uses it"):
        executors.make(key=None, delegation=delegation)
    executor.shutdown()
    executors.make(key=None, delegation=delegation)


def test_a_delegations_file_is_free_after_a_mistake(executors: Executors, delegation: Path) -> None:
    """Though the traceback is still there, as it is in a notebook."""
    with pytest.raises(TypeError, match="'colour' is an invalid argument") as mistake:
        executors.make(key=None, delegation=delegation, colour="blue")
    executors.make(key=None, delegation=delegation)
    assert mistake.tb


def test_a_delegations_file_and_something_else(executors: Executors, delegation: Path, ada: Path) -> None:
    with pytest.raises(Refused, match="`key` and `delegation` are both given"):
        executors.make(delegation=delegation)
    with pytest.raises(Refused, match=r"it is for ada@cluster.example.org, and `user` is bob"):
        executors.make(user="bob@cluster.example.org", key=None, delegation=delegation)


def test_warnings_have_no_control_characters(executors: Executors) -> None:
    """They are made of what results and the service say, and go to the terminal."""
    client, evil = executors.make().client, "\x1b]0;owned\x07\x9b\u202e"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        client._log_version_mismatch({"python_version": evil, "dill_version": [evil], "endpoint_id": evil})  # noqa: SLF001
        client._raise_ha_warning({"ha_warning": f"look{evil}"})  # noqa: SLF001
    texts = [str(warning.message) for warning in caught]
    assert "Python ]0;owned/Dill" in texts[0]
    assert texts[1] == "look]0;owned"
    assert all(mark.isprintable() or mark in "\n\t" for text in texts for mark in text)


def test_what_the_client_says_of_tasks_has_no_control_characters(
    executors: Executors, caplog: pytest.LogCaptureFixture
) -> None:
    """Which the SDK logs, too."""
    client, evil, tasks = executors.make().client, "\x1b]0;owned\x07\x9b\u202e", [str(uuid.uuid4()), str(uuid.uuid4())]
    said = {
        tasks[0]: {"task_id": tasks[0], "status": "failed", "completion_t": "1", "exception": f"no{evil}"},
        tasks[1]: {"task_id": tasks[1], "status": f"waiting{evil}"},
    }
    web = client._compute_web_client.v2  # noqa: SLF001 - what comes from the network
    web.get_task_batch = lambda asked: {"results": said}
    web.get_task = lambda task: SimpleNamespace(text=json.dumps(said[task]))
    client.get_batch_result(tasks)
    assert "no]0;owned" in caplog.text
    with pytest.raises(TaskExecutionFailed, match="no]0;owned") as failed:
        client.get_result(tasks[0])
    with pytest.raises(TaskPending, match="waiting]0;owned") as pending:
        client.get_result(tasks[1])
    for text in (caplog.text, str(failed.value), str(pending.value)):
        assert all(mark.isprintable() or mark in "\n\t" for mark in text)


def test_the_client_that_was_given_stays_as_it_is(executors: Executors) -> None:
    """It unpickles still, for those who use it elsewhere; the executor's own doesn't."""
    client = offline()
    executor = executors.make(client=client)
    pickled = client.fx_serializer.serialize({1})
    assert client.fx_serializer.deserialize(pickled) == {1}
    with pytest.raises(Exception, match="could run code here"):
        executor.client.fx_serializer.deserialize(pickled)
