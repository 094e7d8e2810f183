"""A task's life: from its delivery into the engine, and from there to its result.

Each task is one coroutine, `Tasks._live`. It can't be lost: the queue holds it until the journal has it, and the
journal until RabbitMQ has confirmed its result. It isn't run twice by mistake: each attempt stands in the journal
before it begins, so that the next endpoint knows of it, should this one be killed.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from functools import partial
from typing import Any, NoReturn

from twinlock_common.amqp.consumer import Message

from twinlock_endpoint.engines.base import Engine
from twinlock_endpoint.journal.journal import Journal
from twinlock_endpoint.journal.recovery import Unfinished
from twinlock_endpoint.manager.audit import Audit
from twinlock_endpoint.task import Task
from twinlock_endpoint.tasks import outcomes
from twinlock_endpoint.tasks.engine_ends import EngineEnds, set_done
from twinlock_endpoint.tasks.entry import Entry, Interrupted
from twinlock_endpoint.tasks.intake import CameBeforeError, Intake, Origin, Refusal
from twinlock_endpoint.tasks.ledger import Ledger
from twinlock_endpoint.tasks.outcomes import Failures, Outcome
from twinlock_endpoint.worker import texts

log = logging.getLogger(__name__)


class Tasks:
    """All tasks of the endpoint. Everything here runs in the loop; engines report back through it."""

    def __init__(
        self,
        engine: Engine,
        intake: Intake,
        ledger: Ledger,
        journal: Journal,
        hint: Callable[[], str],
        audit: Audit | None = None,
    ) -> None:
        """Prepare for tasks. With an `audit`, one runs only after that has it. `hint` says what may end workers."""
        self._engine = engine
        self._intake = intake
        self._ledger = ledger
        self._journal = journal
        self._hint = hint
        self._audit = audit
        self._loop = asyncio.get_running_loop()
        self._lives: set[asyncio.Task[None]] = set()
        self._until_engine_runs: list[asyncio.Future[None]] = []
        self._ends = EngineEnds()
        self._failure: Exception | None = None
        self._leaving = False

    # What happens to all of them.

    def take(self, task_id: str, delivery: Message) -> None:
        """Take a task that is new here."""
        entry = self._ledger.enter(task_id, delivery)
        self._begin(self._live(entry, self._new(entry, delivery)))

    def adopt(self) -> None:
        """Take what predecessors left in the journal. Results go out now; the rest waits until the engine runs."""
        for task_id, found in self._journal.unfinished.items():
            entry = self._ledger.enter(task_id, None, found.attempts)
            if found.result is not None:
                self._begin(self._ledger.settle_recorded(entry, found.result))
            else:
                self._journal.tried(task_id, found.attempts)
                self._begin(self._live(entry, self._adopted(entry, found)))
        self._journal.unfinished.clear()

    def engine_runs(self) -> None:
        """Let the adopted tasks go on: the engine runs."""
        while self._until_engine_runs:
            set_done(self._until_engine_runs.pop())

    def fail(self, reason: Exception) -> None:
        """Make the reason why the engine broke the result of all tasks without one, and of those that come later."""
        self._failure = reason
        for entry in self._ledger.unfinished():
            entry.interrupt(outcomes.engine_failed(entry.id, [reason]))

    def leave(self) -> None:
        """Hand no task to the engine any more: the endpoint ends."""
        self._leaving = True

    def abandon(self, why: str, final: bool) -> None:
        """Decide about the tasks without a result, after the engine has stopped.

        Tasks that may run (again) stay in the journal, for the next endpoint. With `final` nobody waits for that any
        more, so that they get an error as their result, as all others do. `why` is its reason, the end of the endpoint.
        """
        dispatched = self._journal.dispatched()
        for entry in self._ledger.unfinished():
            attempts = entry.attempts - entry.waits_in_engine(dispatched)
            if not final and attempts <= self._engine.retries:
                if entry.is_kept:
                    self._journal.tried(entry.id, attempts)
                entry.interrupt(None)
            else:
                entry.interrupt(outcomes.shut_down(entry.id, why, attempts, self._engine.retries))

    def keep_all(self) -> None:
        """Leave all tasks in the journal as they are, for the next endpoint: the engine never ran."""
        for entry in self._ledger.unfinished():
            entry.interrupt(None)

    async def drain(self, limit_s: float) -> None:
        """Wait until all results are confirmed, at most `limit_s` seconds."""
        if self._lives:
            await asyncio.wait(self._lives, timeout=limit_s)

    # A task's life.

    async def _live(self, entry: Entry, work: Coroutine[Any, Any, Outcome]) -> None:
        """Work until there is a result, whatever happens; have it audited, record and publish it."""
        try:
            outcome = await work
        except Interrupted as interruption:
            if interruption.outcome is None:
                return
            outcome = interruption.outcome
        except CameBeforeError:
            self._ledger.drop(entry)
            return
        except Exception as error:  # any message gets a result; it must not stay in the queue
            log.exception("Task %s can't be run", entry.id)
            outcome = outcomes.not_started(entry.id, error)
        if entry.trail is not None:
            entry.trail.end(outcome.event)
        await self._ledger.settle(entry, outcome.result)

    async def _new(self, entry: Entry, delivery: Message) -> Outcome:
        """Return the outcome of a task that was delivered."""
        found = await self._intake.admit(entry.id, delivery)
        entry.know(found.origin, self._audit)
        if isinstance(found, Refusal):
            return found.outcome
        try:
            await self._ledger.store(entry, found.kept, 0 if self._audit else 1)
        except OSError as error:
            return outcomes.not_stored(entry.id, error)
        refusal = await entry.claim(found)
        if refusal is not None:
            return refusal
        if self._audit is None:
            return await self._run(entry, found.task, [], noted=True)
        return await self._run_audited(entry, found.task)

    async def _adopted(self, entry: Entry, found: Unfinished) -> Outcome:
        """Return the outcome of a task of an endpoint before this one: it runs if it may (again)."""
        engine_runs = self._when_engine_runs()
        if found.task is None:
            entry.know(Origin(), self._audit, is_received=True)
            await entry.wait(engine_runs)
            return outcomes.damaged(entry.id)
        known = await self._intake.readmit(found.task)
        entry.know(known.origin, self._audit, is_received=found.attempts > 0)
        refusal = None if isinstance(known, Refusal) else await entry.claim(known)
        await entry.wait(engine_runs)
        if isinstance(known, Refusal):
            return known.outcome
        return await self._resume(entry, known.task, found.attempts) if refusal is None else refusal

    async def _resume(self, entry: Entry, task: Task, attempts: int) -> Outcome:
        """Run a task that endpoints before this one have tried so often, if it may run (again)."""
        if attempts == 0:
            return await self._run_audited(entry, task)
        failures = outcomes.interruptions(attempts, self._engine.retries)
        if attempts > self._engine.retries:
            return outcomes.interrupted(entry.id, failures)
        return await self._run(entry, task, failures)

    async def _run_audited(self, entry: Entry, task: Task) -> Outcome:
        """Run a task for the first time; if there is an audit, after the audit has it."""
        if entry.trail is not None:
            written: asyncio.Future[None] = self._loop.create_future()
            entry.trail.start(partial(set_done, written))
            await entry.wait(written)
        return await self._run(entry, task, [])

    async def _run(self, entry: Entry, task: Task, failures: Failures, *, noted: bool = False) -> Outcome:
        """Attempt a task until a worker has made a result, or it may not be tried again.

        With `noted`, the first of these attempts stands in the journal already.
        """
        while True:
            try:
                if not noted:
                    await entry.wait(self._journal.trying(task.id, len(failures) + 1))
            except OSError as error:
                return outcomes.attempt_not_stored(task.id, failures, error)
            outcome = await self._attempt(entry, task, failures)
            if isinstance(outcome, Outcome):
                return outcome
            log.warning("Task %s was lost: %s: %s", task.id, type(outcome).__name__, texts.text_of(outcome))
            noted = entry.waits_in_engine(self._journal.dispatched())  # then that was no attempt
            if not noted:
                failures = [*failures, outcome]
            if len(failures) > self._engine.retries:
                return outcomes.lost(task.id, failures, self._hint())

    async def _attempt(self, entry: Entry, task: Task, failures: Failures) -> Outcome | BaseException:
        """Hand a task to the engine; return its outcome, or what kept a worker from making a result."""
        if self._failure is not None:
            return outcomes.engine_failed(task.id, [*failures, self._failure])
        if self._leaving:
            await self._until_abandoned(entry)
        entry.attempts = len(failures) + 1
        entry.is_in_engine = True
        try:
            future = self._engine.submit(task)
        except Exception as error:
            log.exception("Task %s can't be started", task.id)
            return outcomes.not_started(task.id, error)
        await entry.wait(self._ends.of(future))
        return await self._outcome(entry, future)

    async def _outcome(self, entry: Entry, ended: Future[bytes]) -> Outcome | BaseException:
        if ended.cancelled():  # by the engine's end, before it began
            entry.attempts -= 1
            entry.is_in_engine = False
            await self._until_abandoned(entry)
        error = ended.exception()
        if error is None:
            return outcomes.answered(entry.id, ended.result())
        if self._leaving:  # the engine's end is why
            await self._until_abandoned(entry)
        return error

    async def _until_abandoned(self, entry: Entry) -> NoReturn:
        never: asyncio.Future[NoReturn] = self._loop.create_future()
        await entry.wait(never)

    # What the coroutines wait for.

    def _begin(self, life: Coroutine[Any, Any, None]) -> None:
        running = self._loop.create_task(life)
        self._lives.add(running)
        running.add_done_callback(self._lives.discard)

    def _when_engine_runs(self) -> asyncio.Future[None]:
        future: asyncio.Future[None] = self._loop.create_future()
        self._until_engine_runs.append(future)
        return future
