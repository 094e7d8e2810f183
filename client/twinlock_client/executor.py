"""`SignedExecutor`: globus-compute-sdk's Executor, of which an endpoint runs only what the user has signed."""

import os
import threading
import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import wait as wait_for
from pathlib import Path
from typing import Any

from globus_compute_sdk import Client, Executor
from globus_compute_sdk.sdk.asynchronous.compute_future import ComputeFuture
from globus_compute_sdk.serialize import ComputeSerializer
from twinlock_signed.errors import Refused

from twinlock_client import functions, printable, stub, user
from twinlock_client.delegations import DAY
from twinlock_client.envelope import Envelopes, Way
from twinlock_client.functions import Code, Functions
from twinlock_client.records import enrolled, submitted
from twinlock_client.results import Expected, ResultRefused, read
from twinlock_client.sdk import check_release, endings, watcher
from twinlock_client.sdk.client import TextClient, user_runtime
from twinlock_client.session import SavedSession, Session, SigningSession
from twinlock_client.user import User

check_release()


class SignedExecutor(Executor):  # type: ignore[misc]  # the SDK has no types
    """Use it as globus-compute-sdk's Executor. What it submits is signed, and what comes back can't run code here."""

    _signed_group: uuid.UUID | None = None
    """The task group of the last tasks, which the next executor uses. The SDK's own is that of plain executors."""

    def __init__(
        self,
        endpoint_id: uuid.UUID | str | None = None,
        client: Client | None = None,
        task_group_id: uuid.UUID | str | None = None,
        *,
        user: str | None = None,
        key: str | Path | None = None,
        delegation: str | Path | None = None,
        delegation_lifetime: int = DAY,
        task_lifetime: int | None = None,
        serializer: ComputeSerializer | None = None,
        **others: Any,
    ) -> None:
        """Take all that the SDK's Executor takes, under the same names, and who signs.

        Args:
            endpoint_id: the uuid of a verified endpoint.
            client: the SDK's, of which the login is used. It keeps what else it has, and is told nothing.
            task_group_id: as the SDK has it.
            user: the account and its site, such as ``ada@cluster.example.org``.
            key: the SSH key that signs: a file, the fingerprint of one in the agent, or None for the agent's only one.
            delegation: instead of `key`, a file that `twinlock-client delegate` has made.
            delegation_lifetime: seconds for which a delegation is valid; the site has a limit, mostly a day.
            task_lifetime: seconds after which an endpoint no longer accepts a task; None is as the delegation.
            serializer: packs functions and arguments, and reads what the account's key has signed.
            others: what else the SDK's Executor has.

        Raises:
            Refused: what is given about who signs can't be used.
        """
        self._serializer = serializer or _packer(client)
        _check_seconds(delegation_lifetime=delegation_lifetime, task_lifetime=task_lifetime)
        self._session, account = _session(user, key, delegation, delegation_lifetime)
        self._envelopes = Envelopes(account, self._session, task_lifetime)
        if isinstance(self._session, SavedSession):
            said = self._session.delegated.said
            endpoint_id = endpoint_id or said.manager
            others["user_endpoint_config"] = others.get("user_endpoint_config") or said.user_endpoint_config
        self._functions = Functions()
        self._stub_id: str | None = None
        self._stub_lock = threading.Lock()
        try:
            super().__init__(endpoint_id, TextClient(client), serializer=serializer, **others)
        except BaseException:
            self._session.close()  # the traceback would keep a delegation's file from the next attempt
            raise
        self.task_group_id = task_group_id or SignedExecutor._signed_group

    @property
    def task_group_id(self) -> uuid.UUID | None:
        """The task group, as the SDK has it; executors that sign share none with those that don't."""
        return self._task_group_id

    @task_group_id.setter
    def task_group_id(self, group: uuid.UUID | str | None) -> None:
        self._task_group_id = uuid.UUID(str(group)) if group else None

    @property
    def serializer(self) -> ComputeSerializer:
        """What packs functions and arguments, and reads what the account's key has signed."""
        return self._serializer

    @serializer.setter
    def serializer(self, serializer: ComputeSerializer) -> None:
        if not isinstance(serializer, ComputeSerializer):
            raise TypeError(f"serializer: it is a {type(serializer).__name__}; give a ComputeSerializer")
        self._serializer = serializer

    def register_function(
        self, fn: Callable[..., Any], function_id: str | None = None, **func_register_kwargs: Any
    ) -> str:
        """Keep a function's code for `submit_to_registered_function`. The service doesn't get it.

        Raise `Refused` for arguments that share a function with others, since nobody else could sign its use.
        """
        _refuse_sharing(func_register_kwargs)
        return self._register(fn, functions.pack(fn, self._serializer), function_id)

    def register_source_code(self, source: str, function_name: str, **registration_kwargs: Any) -> str:
        """Keep the code of a function in a text, as `register_function` does."""
        _refuse_sharing(registration_kwargs)
        return self._register(hash(source), functions.pack_source(source, function_name), None)

    def _register(self, cached_by: object, code: Code, function_id: str | None) -> str:
        chosen = str(super().register_function(cached_by, function_id or str(uuid.uuid4())))  # asks the service nothing
        self._functions.add(chosen, code)
        return chosen

    def submit_to_registered_function(
        self, function_id: str, args: tuple[Any, ...] | None = None, kwargs: dict[str, Any] | None = None
    ) -> ComputeFuture:
        """Sign a task, and submit it. Raise `Refused` if the function isn't known here, or nothing is signed."""
        if self._stopped or not self.endpoint_id:
            return super().submit_to_registered_function(function_id)  # which says what is wrong
        way = Way(
            str(self.endpoint_id),
            self.user_endpoint_config,
            self.resource_specification,
            [each.import_path for each in self._validated_result_serializers],
        )
        code = self._functions.get(str(function_id))
        envelope = self._envelopes.make(code, tuple(args or ()), dict(kwargs or {}), way, self._serializer)
        return super().submit_to_registered_function(self._stub(), envelope)

    def _stub(self) -> str:
        """Return the uuid of what the service is to know, which is registered once."""
        with self._stub_lock:
            if self._stub_id is None:
                self._stub_id = str(self.client.register_source_code(stub.SOURCE, stub.NAME))
            return self._stub_id

    def _submit_tasks(self, *arguments: Any) -> None:
        *_, futures, tasks = arguments
        for future, task in zip(futures, tasks, strict=True):
            self._expect(future, task.args.expected)
        try:
            super()._submit_tasks(*arguments)
        except Exception as error:
            endings.fail(futures, error)  # the SDK leaves them to wait if it can't read the service's answer
            self._submitter_thread_exception_captured = True  # so that it doesn't print the traceback as well
            raise
        endings.fail([future for future in futures if not _has_uuid(future)], endings.no_uuid())
        SignedExecutor._signed_group = self._task_group_id
        accepted = [(future, task) for future, task in zip(futures, tasks, strict=True) if _has_uuid(future)]
        submitted.add(str(self.task_group_id), {future.task_id: task.args.expected for future, task in accepted})

    def _expect(self, future: ComputeFuture, expected: Expected) -> None:
        def check(text: str, is_failure: bool) -> Any:
            key = enrolled.key(expected.user, expected.manager)
            return read(expected, key, text, self._serializer.deserialize, is_failure=is_failure)

        endings.expect(future, check)

    def _get_result_watcher(self) -> watcher.SignedWatcher:
        assert self._task_group_id, "the service has said one"
        return watcher.of_group(self._task_group_id, self.client, self.amqp_port)

    def reload_tasks(self, task_group_id: uuid.UUID | str | None = None) -> Iterable[ComputeFuture]:
        """Return futures of a group's tasks, as the SDK does. Those that weren't submitted from here fail."""
        if task_group_id is not None:
            self.task_group_id = task_group_id
        if self.task_group_id is None:
            raise ValueError("must specify a task_group_id in order to reload tasks")
        group = str(self.task_group_id)
        known, waited_for = submitted.read(group), watcher.open_futures(self.task_group_id)
        futures = {task: ComputeFuture(task) for task in self.client.task_group(group) if task not in waited_for}
        for task, future in futures.items():
            if task in known:
                self._expect(future, known[task])
            else:
                future.set_exception(_unknown(task))
        pending = watcher.load(self.client, {task: each for task, each in futures.items() if task in known})
        if pending:
            self._get_result_watcher().watch_for_task_results(self, pending)
        return futures.values()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the executor, as the SDK does."""
        was_stopped = self._stopped
        super().shutdown(wait, cancel_futures=cancel_futures)
        self._session.close()
        if wait and not was_stopped and threading.current_thread() is not self._task_submitter:
            self._task_submitter.join()  # what it is submitting is waited for too
            waited_for = watcher.open_futures(self._task_group_id, self).values()
            wait_for([future for future in waited_for if not future.cancelled()])


def _packer(client: Client | None) -> ComputeSerializer:
    """Return what packs functions: the client's, unless that packs only what travels in the open."""
    if client is None or isinstance(client, TextClient):
        return ComputeSerializer()
    return client.fx_serializer


def _session(
    of: str | None, key: str | Path | None, delegation: str | Path | None, seconds: int
) -> tuple[Session, User]:
    """Return who signs, and for whom."""
    if delegation is not None:
        if key is not None:
            raise Refused("`key` and `delegation` are both given; a delegation's file needs no key")
        saved = SavedSession(Path(os.path.expanduser(delegation)))  # noqa: PTH111 - as `ssh_keys.choose` does
        account = user.read(saved.delegated.said.account)
        if of not in (None, str(account)):
            raise Refused(f"{delegation}: it is for {account}, and `user` is {of}; leave `user` out, or correct it")
        return saved, account
    if of is None:
        raise Refused("user: it isn't given; give the account and its site, such as ada@cluster.example.org")
    account = user.read(of)
    return SigningSession(account, key, seconds, user_runtime), account


def _check_seconds(**lifetimes: int | None) -> None:
    for name, seconds in lifetimes.items():
        if seconds is not None and (type(seconds) is not int or seconds < 1):
            raise Refused(f"{name} {seconds!r}: it is not a whole number of seconds, 1 or more; give one, such as 3600")


def _refuse_sharing(registration: dict[str, Any]) -> None:
    shared = [name for name in ("public", "group", "ha_endpoint_id") if registration.get(name)]
    if shared:
        raise Refused(f"{shared[0]}: signed functions aren't registered with the service, so nobody can share them")


def _has_uuid(future: ComputeFuture) -> bool:
    return isinstance(future.task_id, str) and future.task_id != ""


def _unknown(task: str) -> ResultRefused:
    return ResultRefused(
        f"Task {printable.line(task[:40])}: this computer has no record that it was submitted, so its result could be "
        "another task's; reload it where it was submitted"
    )
