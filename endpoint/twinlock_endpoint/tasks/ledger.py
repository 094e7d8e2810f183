"""Which tasks this endpoint owes an answer, and when the queue may forget them.

The one place that decides about acknowledgements. A task is acknowledged when the journal has it, or its answer; where
the disk takes neither, when its answer was confirmed. Until then the queue holds it, so that it comes again when the
connection or this endpoint is lost. It leaves the journal when its answer was confirmed.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from twinlock_common.amqp.errors import RefusedMessageError

from twinlock_endpoint.journal.journal import Journal, Safe
from twinlock_endpoint.queues.consumer import Delivery
from twinlock_endpoint.task import Task
from twinlock_endpoint.tasks import results

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Entry:
    "With a delivery it is the queue that holds the task, without one the journal."

    delivery: Delivery | None
    answered: bool = False
    refused: bool = False


class Ledger:
    """Tasks between delivery and the confirmation of their answers, by task id."""

    def __init__(
        self,
        journal: Journal,
        acknowledge: Callable[[Delivery], None],
        publish: Callable[[bytes], asyncio.Future[None]],
        prefetch: int,
    ) -> None:
        self._journal = journal
        self._acknowledge = acknowledge
        self._publish = publish
        self._open: dict[str, _Entry] = {}
        # An acknowledgement may be lost with its connection. The queue has at most `prefetch` deliveries that wait for
        # one, so only the last so many tasks can come again.
        self._done: OrderedDict[str, None] = OrderedDict.fromkeys(journal.done[-prefetch:])
        self._remember = prefetch
        self._left = asyncio.Event()
        self.received = 0
        self.settled = 0
        self.unanswered = 0
        self.kept = 0
        """Tasks that only the journal has."""
        self.refused = 0
        """Answers that RabbitMQ refused for good and that were replaced by a short one."""
        self.dropped = 0
        """Tasks without an answer, because RabbitMQ refused the short one too."""
        self.moved: Callable[[], None] = lambda: None
        """Called when there may be room for another task."""
        self.kept_changed: Callable[[int], None] = lambda kept: None
        self.refused_changed: Callable[[], None] = lambda: None
        """Called when RabbitMQ has refused an answer."""

    def __len__(self) -> int:
        return len(self._open)

    def __contains__(self, task_id: str) -> bool:
        return task_id in self._open

    def again(self, task_id: str, delivery: Delivery) -> bool:
        """Whether it is a task that came before; then the delivery is dealt with."""
        entry = self._open.get(task_id)
        if entry is not None and entry.delivery is not None:
            entry.delivery = delivery
        elif entry is not None or task_id in self._done:
            self._acknowledge(delivery)
        else:
            return False
        return True

    def note(self, task_id: str, delivery: Delivery | None) -> None:
        """A task that is owed an answer, and is not to be run or has no delivery: its predecessor took it."""
        self._open[task_id] = _Entry(delivery)
        self.received += 1
        self.unanswered += 1
        if delivery is None:
            self._keep(1)

    def take(self, task: Task, delivery: Delivery, attempts: int, then: Safe) -> None:
        """A task that is to be run: `then` is called when the journal has it, or can't have it."""
        self.note(task.id, delivery)

        def safe(error: OSError | None) -> None:
            if error is None:
                self._release(task.id)
            then(error)

        self._journal.taken(task, attempts, safe)

    def trying(self, task_id: str, attempts: int, then: Safe) -> None:
        """It is going to be handed to the engine for the so many-th time: `then` is called as by `take`."""
        self._journal.trying(task_id, attempts, then)

    def answer(self, task_id: str, result: bytes, *, kept: bool = False) -> None:
        """Answer a task, unless that was done already; `kept` says that the journal has the answer."""
        entry = self._open.get(task_id)
        if entry is None or entry.answered:
            return
        entry.answered = True
        self.unanswered -= 1
        if kept:
            self._send(task_id, result, None)
        else:
            self._journal.answered(task_id, result, partial(self._send, task_id, result))
        self.moved()

    def figures(self) -> dict[str, int]:
        """What became of the answers, in numbers."""
        unsent = len(self._open) - self.unanswered
        return {"unsent_results": unsent, "refused_results": self.refused, "dropped_results": self.dropped}

    def open(self) -> list[str]:
        """The tasks that nobody has answered yet."""
        return [task_id for task_id, entry in self._open.items() if not entry.answered]

    async def drain(self, limit_s: float) -> None:
        """Wait until all answers are confirmed, at most `limit_s` seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                while len(self._open) > self.unanswered:
                    self._left.clear()
                    await self._left.wait()

    def _send(self, task_id: str, result: bytes, error: OSError | None) -> None:
        if error is None:
            self._release(task_id)
        self._publish(result).add_done_callback(partial(self._sent, task_id))

    def _sent(self, task_id: str, future: asyncio.Future[None]) -> None:
        error = future.exception()
        if isinstance(error, RefusedMessageError):
            self._refused(task_id, error)
        else:
            self._settle(task_id)

    def _refused(self, task_id: str, error: RefusedMessageError) -> None:
        "A short answer that says so replaces the one that RabbitMQ refuses, in the journal too."
        entry = self._open[task_id]
        if entry.refused:
            log.error("Task %s is dropped without an answer: %s", task_id, error)
            self.dropped += 1
            self._settle(task_id)
        else:
            log.error("Task %s is answered with an error in place of its result: %s", task_id, error)
            entry.refused = True
            self.refused += 1
            short = results.refused(task_id, error)
            self._journal.answered(task_id, short, partial(self._send, task_id, short))
        self.refused_changed()

    def _release(self, task_id: str) -> None:
        "The journal has it, so the queue needn't any more."
        entry = self._open[task_id]
        if entry.delivery is not None:
            delivery, entry.delivery = entry.delivery, None
            self._keep(1)
            self._acknowledge(delivery)

    def _settle(self, task_id: str) -> None:
        entry = self._open.pop(task_id)
        self._journal.finished(task_id)
        if entry.delivery is None:
            self._keep(-1)
        else:
            self._acknowledge(entry.delivery)
        self.settled += 1
        self._left.set()
        self._done[task_id] = None
        if len(self._done) > self._remember:
            self._done.popitem(last=False)
        self.moved()

    def _keep(self, change: int) -> None:
        self.kept += change
        self.kept_changed(self.kept)
