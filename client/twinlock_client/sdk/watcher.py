"""The thread that receives results, as texts, and has each one checked by what its future expects."""

import contextlib
import logging
import threading
import time
import uuid
from concurrent.futures import InvalidStateError
from typing import Any

import pika
from globus_compute_common import messagepack
from globus_compute_common.messagepack.message_types import Result
from globus_compute_sdk.sdk.asynchronous.compute_future import ComputeFuture
from globus_compute_sdk.sdk.client import Client
from globus_compute_sdk.sdk.executor import _ResultWatcher
from twinlock_signed.errors import Refused

from twinlock_client import printable
from twinlock_client.sdk import amqp
from twinlock_client.sdk.endings import fail, finish, no_uuid, settle

log = logging.getLogger(__name__)

_MINUTE = 60.0
"""Seconds between two lines about messages that were dropped; the service may send as many as it likes."""

_NO_MORE = "The connection to the queue of results has ended, and the task may have run; use reload_tasks later"

_NOT_GIVEN = "The service says that the task has ended, and doesn't give its result; use reload_tasks later"


class SignedWatcher(_ResultWatcher):  # type: ignore[misc]  # the SDK has no types
    """Receives the results of a task group.

    The SDK's executors find their watchers by task group, and the service says which group a task is in. So here the
    SDK knows it by a uuid that nobody else does: no plain executor gets it, and no signed one gets a plain one.
    """

    def __init__(self, group: uuid.UUID, client: Client, port: int | None) -> None:
        super().__init__(uuid.uuid4(), client, port=port)
        self._group = group
        self._start_lock = threading.Lock()
        self._dropped = 0
        self._next_line = 0.0

    @property
    def has_ended(self) -> bool:
        """Whether it receives nothing any more. One that hasn't started yet will."""
        return self.ident is not None and not self.is_alive()

    def watch_for_task_results(self, executor: object, futures: list[ComputeFuture]) -> int:
        """Add futures as the SDK does, and start with the first: none is missed if the connection fails at once."""
        self._refuse_known(futures)
        watched = int(super().watch_for_task_results(executor, futures))
        with self._start_lock:
            if self.ident is None:
                self.start()
        return watched

    def _refuse_known(self, futures: list[ComputeFuture]) -> None:
        """Fail those whose task another future waits for: there will be one result, and the SDK waits with one."""
        waiting = self.get_open_futures()
        for future in futures:
            if waiting.setdefault(str(future.task_id), future) is not future:
                fail([future], no_uuid())

    def run(self) -> None:
        """Receive results. At the end, however it comes, no future is left to wait, and no other is taken."""
        with contextlib.suppress(InvalidStateError):  # of a future that was cancelled, where the SDK fails them all
            super().run()
        with self._new_futures_lock:
            self._closed = True
            left = list(self._open_futures.values())
            self._open_futures.clear()
            self._open_futures_empty.set()
        for future in left:
            finish(future, error=self._cancellation_reason or RuntimeError(_NO_MORE))

    def _connect(self) -> pika.SelectConnection:
        try:
            found = self.client.get_result_amqp_url()
            reached = amqp.parameters(found["connection_url"], self.port)
        except Refused as error:
            self._cancellation_reason = error  # another try would get the same
            raise
        self._queue_prefix = printable.line(str(found["queue_prefix"]))  # the SDK logs it
        return pika.SelectConnection(
            reached,
            on_close_callback=self._on_connection_closed,
            on_open_error_callback=self._on_open_failed,
            on_open_callback=self._on_connection_open,
        )

    def _on_channel_closed(self, channel: Any, exc: Exception) -> None:
        """Forget what isn't acknowledged, which RabbitMQ sends again; the SDK would try it on the closed channel."""
        self._to_ack.clear()
        super()._on_channel_closed(channel, exc)

    def _start_consuming(self) -> None:
        queue = f"{self._queue_prefix}{self._group}"
        self._consumer_tag = self._channel.basic_consume(queue=queue, on_message_callback=self._on_message)

    def _on_message(self, channel: Any, delivery: Any, properties: Any, body: bytes) -> None:
        """Keep a result until it is matched. What is none is dropped: the SDK has it sent again, and again."""
        try:
            found = messagepack.unpack(body)
            if not isinstance(found, Result):
                raise TypeError
        except Exception as error:
            channel.basic_reject(delivery.delivery_tag, requeue=False)
            self._count_dropped(error)
            return
        self._received_results[str(found.task_id)] = (properties, found)
        self._to_ack.append(delivery.delivery_tag)
        self._time_to_check_results.set()

    def _count_dropped(self, error: Exception) -> None:
        self._dropped += 1
        if time.monotonic() < self._next_line:
            return
        self._next_line = time.monotonic() + _MINUTE
        log.warning(
            "queue of results: a message that is no result was dropped (%s; %d so far); report it",
            type(error).__name__,
            self._dropped,
        )

    def _match_results_to_futures(self) -> None:
        with self._new_futures_lock:
            ready = [self._open_futures.pop(task) for task in self._open_futures.keys() & self._received_results.keys()]
        to_load = {}
        for future in ready:
            properties, message = self._received_results.pop(future.task_id)
            self._warn(message.details)
            if (properties.headers or {}).get("high_assurance"):
                to_load[future.task_id] = future
            else:
                settle(future, message.data, is_failure=message.is_error)
        if to_load:
            self._load(to_load)
        with self._new_futures_lock:
            if not self._open_futures:
                self._open_futures_empty.set()

    def _warn(self, details: dict[Any, Any] | None) -> None:
        """Warn of other versions. Neither strange details nor a filter that makes errors of warnings costs results."""
        with contextlib.suppress(Exception):
            self.client._log_version_mismatch(details)  # noqa: SLF001 - the client is ours

    def _load(self, futures: dict[str, ComputeFuture]) -> None:
        """Get results that the queue only announces. Nothing announces them again, so those that aren't there fail."""
        reason = None
        try:
            missing = load(self.client, futures)
        except Exception as error:
            missing, reason = [future for future in futures.values() if not future.done()], error
        for future in missing:
            failure = RuntimeError(_NOT_GIVEN)
            failure.__cause__ = reason
            finish(future, error=failure)


def load(client: Any, futures: dict[str, ComputeFuture], batch_size: int = 128) -> list[ComputeFuture]:
    """Ask the service for results, and return the futures of tasks that it has none of.

    Args:
        client: a `TextClient`.
        futures: by the tasks' uuids; each expects something.
        batch_size: how many tasks the service is asked about at once.
    """
    pending = []
    tasks = list(futures)
    for first in range(0, len(tasks), batch_size):
        statuses = client.statuses(tasks[first : first + batch_size])
        for task in tasks[first : first + batch_size]:
            status = statuses.get(task, {})
            if not status.get("completion_t"):
                pending.append(futures[task])
            elif status.get("status") == "success":
                settle(futures[task], status.get("result"), is_failure=False)
            else:
                settle(futures[task], status.get("exception"), is_failure=True)
    return pending


_watchers: dict[uuid.UUID, SignedWatcher] = {}
_lock = threading.Lock()


def of_group(group: uuid.UUID, client: Client, port: int | None) -> SignedWatcher:
    """Return the watcher of a task group. There is one at a time: two would each get half of the results."""
    with _lock:
        watcher = _watchers.get(group)
        if watcher is None or watcher.has_ended:
            watcher = _watchers[group] = SignedWatcher(group, client, port)
        return watcher


def open_futures(group: uuid.UUID | None, executor: object = None) -> dict[str, ComputeFuture]:
    """Return the futures of a task group that wait for results, by task; of one executor if it is given."""
    with _lock:
        watcher = _watchers.get(group) if group else None
    return dict(watcher.get_open_futures(executor)) if watcher else {}
