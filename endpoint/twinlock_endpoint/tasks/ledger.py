"""Which tasks this endpoint owes a result, and when the queue may forget them.

This is the one place that decides about acknowledgements. A task is acknowledged when the journal has it, or its
result; if the disk takes neither, when RabbitMQ has confirmed its result. Until then the queue holds it, so that it
comes again when the connection or this endpoint is lost. It leaves the journal when its result was confirmed.
"""

import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from twinlock_common.amqp.consumer import Message
from twinlock_common.amqp.errors import RefusedMessageError

from twinlock_endpoint.journal.journal import Journal
from twinlock_endpoint.task import Task
from twinlock_endpoint.tasks import results
from twinlock_endpoint.tasks.entry import Entry
from twinlock_endpoint.tasks.times import TaskTimes

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Events:
    """The callbacks of the ledger."""

    room: Callable[[], None] = lambda: None
    """Called when there may be room for another task."""

    kept: Callable[[int], None] = lambda tasks: None
    """Called with the number of tasks that only the journal has."""

    answered: Callable[[Entry, bytes], None] = lambda entry, result: None
    """Called with a task that has ended, and its packed result."""

    refused: Callable[[], None] = lambda: None
    """Called when RabbitMQ has refused a result."""


class Ledger:
    """Tasks between delivery and the confirmation of their results, by task id."""

    def __init__(
        self,
        journal: Journal,
        publish: Callable[[bytes], Awaitable[None]],
        prefetch: int,
        events: Events,
    ) -> None:
        self._journal = journal
        self._publish = publish
        self._events = events
        self._entries: dict[str, Entry] = {}
        # An acknowledgement may be lost with its connection. The queue has at most `prefetch` deliveries that wait for
        # one, so only the last so many tasks can come again.
        self._done: OrderedDict[str, None] = OrderedDict.fromkeys(journal.done[-prefetch:])
        self._remember = prefetch
        self.times = TaskTimes()
        """How long tasks waited and ran."""
        self.received = 0
        """Tasks that came, those of a predecessor's journal included."""
        self.settled = 0
        """Tasks that are over: RabbitMQ has their results, or refused them for good."""
        self.without_result = 0
        """Tasks that have no result yet."""
        self.kept = 0
        """Tasks that only the journal has."""
        self.refused = 0
        """Results that RabbitMQ refused for good and that were replaced by a short one."""
        self.dropped = 0
        """Tasks that ended without a result, because RabbitMQ refused the short one too."""

    def __len__(self) -> int:
        return len(self._entries)

    def unfinished(self) -> list[Entry]:
        """Return the tasks that have no result yet."""
        return [entry for entry in self._entries.values() if not entry.has_result]

    def figures(self) -> dict[str, int]:
        """Return in numbers what became of the results."""
        unsent = len(self._entries) - self.without_result
        return {"unsent_results": unsent, "refused_results": self.refused, "dropped_results": self.dropped}

    def again(self, task_id: str, delivery: Message) -> bool:
        """Return whether the task came before; if so, the delivery is dealt with."""
        entry = self._entries.get(task_id)
        if entry is not None and entry.delivery is not None:
            entry.delivery = delivery
        elif entry is not None or task_id in self._done:
            delivery.ack()
        else:
            return False
        return True

    def enter(self, task_id: str, delivery: Message | None, attempts: int = 0) -> Entry:
        """Add a task that is owed a result. Without a delivery it is one that a predecessor has left in the journal."""
        entry = self._entries[task_id] = Entry(task_id, delivery, attempts)
        self.received += 1
        self.without_result += 1
        if delivery is None:
            self._keep(1)
        return entry

    async def store(self, entry: Entry, task: Task, attempts: int) -> None:
        """Have the journal keep a task; then the queue may forget it.

        `attempts` is how often the task was handed to an engine, this time included; 0 if it isn't handed over yet.
        Raise `OSError` if the disk doesn't take it: then the queue holds it until its result is confirmed.
        """
        entry.is_kept = True
        await entry.wait(self._journal.taken(task, attempts))
        self._release(entry)

    async def settle(self, entry: Entry, result: bytes) -> None:
        """Record the result, publish it until RabbitMQ has confirmed it, and forget the task."""
        self._has_result(entry)
        self.times.note(entry.arrived, result)
        self._events.answered(entry, result)
        sealed = await entry.sealed(result)
        await self._record(entry, sealed)
        await self._deliver(entry, sealed)

    async def settle_recorded(self, entry: Entry, result: bytes) -> None:
        """Publish a result that a predecessor has recorded until RabbitMQ has confirmed it, and forget the task."""
        self._has_result(entry)
        await self._deliver(entry, result)

    def drop(self, entry: Entry) -> None:
        """Forget a task that an endpoint before this one has answered."""
        self._has_result(entry)
        self._forget(entry)

    def _has_result(self, entry: Entry) -> None:
        entry.has_result = True
        self.without_result -= 1
        self._events.room()

    async def _record(self, entry: Entry, result: bytes) -> None:
        try:
            await self._journal.answered(entry.id, result)
        except OSError:
            return  # either has the task: the journal, or the queue until this result is confirmed
        self._release(entry)

    async def _deliver(self, entry: Entry, result: bytes) -> None:
        try:
            await self._publish(result)
        except RefusedMessageError as error:
            await self._replace(entry, error)
        self._forget(entry)

    async def _replace(self, entry: Entry, error: RefusedMessageError) -> None:
        """Deliver a short result that says that RabbitMQ refuses the real one; if it refuses that too, deliver none."""
        log.error("Task %s gets an error in place of its result: %s", entry.id, error)
        self.refused += 1
        self._events.refused()
        short = await entry.sealed(results.refused(entry.id, error))
        await self._record(entry, short)
        try:
            await self._publish(short)
        except RefusedMessageError as again:
            log.error("Task %s is dropped without a result: %s", entry.id, again)
            self.dropped += 1
            self._events.refused()

    def _release(self, entry: Entry) -> None:
        """Acknowledge the delivery: the journal has the task, so the queue needn't any more."""
        if entry.delivery is not None:
            delivery, entry.delivery = entry.delivery, None
            self._keep(1)
            delivery.ack()

    def _forget(self, entry: Entry) -> None:
        del self._entries[entry.id]
        self._journal.finished(entry.id)
        if entry.delivery is None:
            self._keep(-1)
        else:
            entry.delivery.ack()
        self.settled += 1
        self._done[entry.id] = None
        if len(self._done) > self._remember:
            self._done.popitem(last=False)
        self._events.room()

    def _keep(self, change: int) -> None:
        self.kept += change
        self._events.kept(self.kept)
