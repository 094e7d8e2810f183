"""The wait for the first task that the user has signed: it brings the options, and the endpoint has none before.

Until then the endpoint is online with nothing but its queues and the connection to its manager endpoint. A task that
may not run gets its answer here. The first one that may goes into the journal, where the endpoint finds it when it has
an engine.

Its number is recorded before its options are used, since these run commands too: or else the service could have them
run again and again, by a task that it delivers to a new endpoint each time and never to one with an engine.
"""

import asyncio
import logging
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Generic, TypeVar

from twinlock_common.amqp.consumer import Message
from twinlock_common.amqp.errors import LinkError, LinkRefused, RefusedMessageError
from twinlock_common.document import Document
from twinlock_common.log_ration import LogRation

from twinlock_endpoint.config import configuration
from twinlock_endpoint.journal.journal import Journal
from twinlock_endpoint.journal.recovery import Unfinished
from twinlock_endpoint.manager.audit import Trail
from twinlock_endpoint.manager.manager import Belief, Manager
from twinlock_endpoint.manager.start_report import StartReport
from twinlock_endpoint.queues import deliveries
from twinlock_endpoint.queues.connections import Connections
from twinlock_endpoint.queues.consumer import TaskConsumer
from twinlock_endpoint.tasks import outcomes
from twinlock_endpoint.tasks.engine_ends import set_done
from twinlock_endpoint.tasks.intake import CameBeforeError, Origin, Refusal
from twinlock_endpoint.verified.intake import SignedIntake, SignedTask
from twinlock_endpoint.verified.presence import Presence

log = logging.getLogger(__name__)

WAIT_S = 300.0
"""Seconds that an endpoint waits for a signed task."""


T = TypeVar("T")


class Gate(Generic[T]):
    """The queues of an endpoint that has no options yet."""

    def __init__(
        self,
        document: Document,
        intake: SignedIntake,
        journal: Journal,
        take_options: Callable[[SignedTask], Awaitable[T | Refusal]],
        report: StartReport,
        belief: Belief,
        wait_s: float = WAIT_S,
    ) -> None:
        """Prepare to wait `wait_s` seconds for a task with whose options `take_options` can make an endpoint."""
        self._intake = intake
        self._journal = journal
        self._take_options = take_options
        self._report = report
        self._wait_s = wait_s
        self._loop = asyncio.get_running_loop()
        self._found: asyncio.Future[T | None] = self._loop.create_future()
        self._waiting: dict[str, Message] = {}
        self._kept: set[str] = set()
        self._lives: set[asyncio.Task[None]] = set()
        self._one_at_a_time = asyncio.Lock()  # whatever the queue sends: two must not bring options at the same time
        self._log = LogRation(log)
        self._is_ended = False
        self.code = os.EX_OK
        """The exit code of an endpoint that found no task."""
        consumer = TaskConsumer(document.queues.tasks.queue, 1, self._deliver, self._ready, lambda: None)
        consumer.begin()
        self._connections = Connections(document.queues, configuration.defaults(), consumer, self._down)
        self._manager = Manager(document, self._connections, self._end, self._report_soon, belief)
        self._presence = Presence(document, self._connections, self._manager)
        self._tell_backlog()
        self._timer = self._wait_anew()

    async def wait(self) -> T | None:
        """Return what `take_options` made of the first task that it could; None if none came, or a signal did."""
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGINT):
            self._loop.add_signal_handler(number, self._end, number.name)
        self._connections.open()
        parts = (self._presence.beat(), self._presence.reports.run(), self._manager.run(), self._publish_recorded())
        beside = [self._loop.create_task(part) for part in parts]
        try:
            found = await self._found
        finally:
            self._timer.cancel()
            for task in beside:
                task.cancel()
        if found is None or self._is_ended:
            await self._presence.say_goodbye()
        await self._connections.close()
        return None if self._is_ended else found

    # What ends the wait.

    def _wait_anew(self) -> asyncio.TimerHandle:
        return self._loop.call_later(self._wait_s, self._end, f"no signed task came in {self._wait_s:.0f} s")

    def end_for_user(self, why: str) -> None:
        """Wait no longer: the user stops the endpoint."""
        self._manager.tell_stop()
        self._end(why)

    def _end(self, why: str, code: int = os.EX_OK) -> None:
        log.info("Shutting down: %s", why)
        self.code, self._is_ended = code, True
        if not self._found.done():
            self._found.set_result(None)

    # The connections.

    def _report_soon(self) -> None:
        self._presence.reports.ask()

    def _ready(self) -> None:
        log.info("Tasks are consumed, until one is signed")
        self._presence.say()
        self._report.online()

    def _down(self, reason: LinkError) -> None:
        if isinstance(reason, LinkRefused):
            refused = "RabbitMQ refused the endpoint's credentials."
            self._report.fail(refused)
            self._end(refused, os.EX_NOPERM)

    # Tasks.

    def _deliver(self, delivery: Message) -> None:
        task_id = deliveries.task_id(delivery)
        if task_id is None:
            self._log.warning("queue", "A message of %d bytes is no task; it is dropped", len(delivery.body))
            delivery.reject()
            return
        is_new = task_id not in self._waiting
        self._waiting[task_id] = delivery
        if is_new:
            life = self._loop.create_task(self._consider(task_id, delivery))
            self._lives.add(life)
            life.add_done_callback(self._lives.discard)

    async def _consider(self, task_id: str, delivery: Message) -> None:
        async with self._one_at_a_time:
            if self._found.done():
                return  # it goes back to the queue with the connection's end
            try:
                refusal = await self._decide(task_id, delivery)
            except CameBeforeError:
                refusal = None
            except Exception as error:  # any message gets a result; it must not stay in the queue
                log.exception("Task %s can't be run", task_id)
                refusal = Refusal(Origin(), outcomes.not_started(task_id, error))
        if refusal is not None:
            await self._answer(task_id, refusal)
        self._waiting.pop(task_id).ack()

    async def _decide(self, task_id: str, delivery: Message) -> Refusal | None:
        """Return why the task may not run; None if its options are those of the endpoint."""
        found = await self._intake.admit(task_id, delivery)
        if isinstance(found, Refusal):
            return found
        return await self._claim(found) or await self._try_options(found)

    async def _claim(self, task: SignedTask) -> Refusal | None:
        """Have the journal keep the task, and record its number; or return why that can't be."""
        try:
            await self._journal.taken(task.kept, 0)
        except OSError as error:
            return Refusal(task.origin, outcomes.not_stored(task.task.id, error))
        self._kept.add(task.task.id)
        self._tell_backlog()
        outcome = await task.claim()
        return None if outcome is None else Refusal(task.origin, outcome)

    async def _try_options(self, task: SignedTask) -> Refusal | None:
        self._timer.cancel()
        try:
            made = await self._take_options(task)
        finally:
            self._timer = self._wait_anew()
        if isinstance(made, Refusal):
            return made
        self._kept.discard(task.task.id)
        self._journal.unfinished[task.task.id] = Unfinished(task.kept)
        if not self._found.done():
            self._found.set_result(made)
        return None

    async def _answer(self, task_id: str, refusal: Refusal) -> None:
        """Publish why the task doesn't run; the queue may forget it when RabbitMQ has that."""
        await self._audit(task_id, refusal)
        result = refusal.outcome.result
        if refusal.seal is not None:
            result = await refusal.seal(result)
        if task_id in self._kept:
            with suppress(OSError):
                await self._journal.answered(task_id, result)
        try:
            await self._connections.results.publish(result)
        except RefusedMessageError as error:
            log.error("A task is dropped without a result: %s", error)
        if task_id in self._kept:
            self._journal.finished(task_id)
            self._kept.discard(task_id)
            self._tell_backlog()

    async def _publish_recorded(self) -> None:
        """Publish the results that endpoints before this one have recorded: they need no options."""
        recorded = {task_id: found.result for task_id, found in self._journal.unfinished.items() if found.result}
        for task_id, result in recorded.items():
            with suppress(RefusedMessageError):  # it stays for an endpoint with options, which makes a shorter one
                await self._connections.results.publish(result)
                self._journal.finished(task_id)
                del self._journal.unfinished[task_id]
                self._tell_backlog()

    async def _audit(self, task_id: str, refusal: Refusal) -> None:
        """Have the refusal in the audit log, if there is one. Who floods the queue waits for that."""
        if self._manager.audit is None:
            return
        written: asyncio.Future[None] = self._loop.create_future()
        trail = Trail(self._manager.audit, task_id, refusal.origin.function_id, refusal.origin.signed)
        trail.end(refusal.outcome.event, partial(set_done, written))
        await written

    def _tell_backlog(self) -> None:
        """Tell the manager endpoint how many tasks only the journal has."""
        self._manager.backlog.changed(len(self._journal.unfinished) + len(self._kept))
