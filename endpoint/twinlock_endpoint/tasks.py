"""A task's way through the endpoint: from its delivery into the engine, and from there to its answer."""

import asyncio
import json
import logging
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any

from twinlock_endpoint import results
from twinlock_endpoint.audit import Audit
from twinlock_endpoint.consumer import Delivery
from twinlock_endpoint.engines.base import Engine, Task
from twinlock_endpoint.ledger import Ledger
from twinlock_endpoint.messages import unpack

log = logging.getLogger(__name__)


class Tasks:
    """All tasks of the endpoint. Everything here runs in the loop; engines report back through it."""

    def __init__(
        self,
        endpoint_id: str,
        engine: Engine,
        allowed: frozenset[str] | None,
        ledger: Ledger,
        publish: Callable[[bytes], asyncio.Future[None]],
        hint: Callable[[], str],
        audit: Audit | None = None,
    ) -> None:
        """With an `audit`, a task runs only after the audit has it. `hint` says what may have ended a worker."""
        self._endpoint_id = endpoint_id
        self._engine = engine
        self._allowed = allowed
        self._ledger = ledger
        self._publish = publish
        self._hint = hint
        self._audit = audit
        self._loop = asyncio.get_running_loop()
        self._failure: Exception | None = None
        self._leaving = False

    def deliver(self, delivery: Delivery) -> bool:
        """Take a delivery. False where not even the task's id can be read, so that nobody can be answered."""
        task_id = _task_id(delivery)
        if task_id is None:
            log.error("A message of %d bytes is no task; it is dropped", len(delivery.body))
            return False
        if self._ledger.receive(task_id, delivery):
            self._take(task_id, delivery)
        return True

    def fail(self, reason: Exception) -> None:
        """The engine broke: answer all tasks with the reason, and every later one."""
        self._failure = reason
        for task_id in self._ledger.unanswered():
            self._answer(task_id, results.lost(task_id, [reason]))

    def leave(self) -> None:
        """The endpoint ends: tasks that are cut off by that stay in the queue, unanswered."""
        self._leaving = True

    def _take(self, task_id: str, delivery: Delivery) -> None:
        try:
            task = _task(task_id, delivery)
        except ValueError as error:
            log.exception("Task %s can't be read", task_id)
            self._answer(task_id, results.not_started(task_id, error))
            return
        if self._allowed is not None and task.function_id not in self._allowed:
            log.warning("Task %s: function %s is not allowed here", task_id, task.function_id)
            self._record(task, "RECEIVED", "FAILED - Function not permitted on endpoint")
            self._answer(task_id, results.not_allowed(task_id, task.function_id, self._endpoint_id))
        elif self._audit is None:
            self._start(task)
        else:
            states, start = ("RECEIVED", "EXEC_START"), partial(self._start, task)
            self._audit.write(task.id, task.function_id, *states, written=start)

    def _start(self, task: Task) -> None:
        if self._failure is not None:
            self._answer(task.id, results.lost(task.id, [self._failure]))
        elif not self._leaving:
            self._submit(task, [])

    def _record(self, task: Task, *states: str) -> None:
        if self._audit is not None:
            self._audit.write(task.id, task.function_id, *states)

    def _submit(self, task: Task, failures: list[BaseException]) -> None:
        try:
            future = self._engine.submit(task)
        except Exception as error:
            log.exception("Task %s can't be started", task.id)
            self._record(task, "FAILED - It can't be started")
            self._answer(task.id, results.not_started(task.id, error))
            return
        future.add_done_callback(partial(self._tell_loop, task, failures))

    def _tell_loop(self, task: Task, failures: list[BaseException], future: Future[bytes]) -> None:
        with suppress(RuntimeError):  # the loop is closed: the endpoint has ended
            self._loop.call_soon_threadsafe(self._finished, task, failures, future)

    def _finished(self, task: Task, failures: list[BaseException], future: Future[bytes]) -> None:
        if future.cancelled():
            return
        error = future.exception()
        if error is None:
            self._record(task, "EXEC_END")
            self._answer(task.id, future.result())
        elif not self._leaving:
            self._lost(task, [*failures, error])

    def _lost(self, task: Task, failures: list[BaseException]) -> None:
        log.warning("Task %s was lost: %r", task.id, failures[-1])
        if len(failures) <= self._engine.retries and self._failure is None:
            self._submit(task, failures)
        else:
            self._record(task, "FAILED - It was lost")
            self._answer(task.id, results.lost(task.id, failures, self._hint()))

    def _answer(self, task_id: str, result: bytes) -> None:
        if self._ledger.answer(task_id):
            self._publish(result).add_done_callback(lambda _future: self._ledger.settle(task_id))


def _task_id(delivery: Delivery) -> str | None:
    "From the header, as the service sends it; else from the body."
    with suppress(ValueError):
        return str(uuid.UUID(str(delivery.headers.get("task_uuid"))))
    try:
        return str(uuid.UUID(unpack(delivery.body, "task")["task_id"]))
    except Exception:
        log.exception("A message has no task id")
        return None


def _task(task_id: str, delivery: Delivery) -> Task:
    "The task; ValueError where the message can't be one. The body is for the worker to read: it may be 10 MiB."
    headers = delivery.headers
    if delivery.body[:1] != b"\x01":
        raise ValueError("the message has an unknown format")
    resources: Any = json.loads(headers.get("resource_specification") or "null") or {}
    serializers = headers.get("result_serializers") or ()
    if not isinstance(resources, dict):
        raise ValueError("the resource specification is not a mapping")
    if not isinstance(serializers, list | tuple):
        raise ValueError("the result serializers are not a list")
    return Task(task_id, str(headers.get("function_uuid")).lower(), delivery.body, resources, tuple(serializers))
