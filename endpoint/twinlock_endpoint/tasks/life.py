"""A task's way through the endpoint: from its delivery into the engine, and from there to its answer."""

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable, Set
from concurrent.futures import Future
from contextlib import suppress
from functools import partial

from twinlock_endpoint.engines.base import Engine
from twinlock_endpoint.errors import DamagedError, InterruptedTaskError
from twinlock_endpoint.journal.journal import Journal
from twinlock_endpoint.manager.audit import Audit
from twinlock_endpoint.queues import deliveries
from twinlock_endpoint.queues.consumer import Delivery
from twinlock_endpoint.task import Task
from twinlock_endpoint.tasks import results
from twinlock_endpoint.tasks.ledger import Ledger
from twinlock_endpoint.worker import texts

log = logging.getLogger(__name__)


class Tasks:
    """All tasks of the endpoint. Everything here runs in the loop; engines report back through it."""

    def __init__(
        self,
        endpoint_id: str,
        engine: Engine,
        allowed: frozenset[str] | None,
        ledger: Ledger,
        journal: Journal,
        hint: Callable[[], str],
        audit: Audit | None = None,
    ) -> None:
        """With an `audit`, a task runs only after the audit has it. `hint` says what may have ended a worker."""
        self._endpoint_id = endpoint_id
        self._engine = engine
        self._allowed = allowed
        self._ledger = ledger
        self._journal = journal
        self._hint = hint
        self._audit = audit
        self._loop = asyncio.get_running_loop()
        self._ended: deque[tuple[Task, list[BaseException], Future[bytes]]] = deque()
        self._woken = False
        self._failure: Exception | None = None
        self._leaving = False
        self._handed: Counter[str] = Counter()  # how often each unanswered task was handed to an engine
        self._here: set[str] = set()  # those of them that are with this engine

    def take(self, task_id: str, delivery: Delivery) -> None:
        """Take a task that is new here."""
        try:
            task = deliveries.task(task_id, delivery)
            self._take(task, delivery)
        except Exception as error:  # any message gets an answer; it must not stay in the queue
            log.exception("Task %s can't be read", task_id)
            if task_id not in self._ledger:
                self._ledger.note(task_id, delivery)
            self._answer(task_id, results.not_started(task_id, error))

    def _take(self, task: Task, delivery: Delivery) -> None:
        if self._allowed is not None and task.function_id not in self._allowed:
            log.warning("Task %s: function %s is not allowed here", task.id, task.function_id)
            self._ledger.note(task.id, delivery)
            self._record(task, "RECEIVED", "FAILED - Function not permitted on endpoint")
            self._answer(task.id, results.not_allowed(task.id, task.function_id, self._endpoint_id))
        else:
            self._ledger.take(task, delivery, 0 if self._audit else 1, partial(self._taken, task))

    def adopt(self) -> None:
        """Take what predecessors left in the journal. Answers go out now; for the rest `resume` is to be called."""
        for task_id, one in self._journal.unfinished.items():
            self._ledger.note(task_id, None)
            self._handed[task_id] = one.attempts
            if one.result is not None:
                self._ledger.answer(task_id, one.result, kept=True)
            else:
                self._journal.tried(task_id, one.attempts)

    def resume(self) -> None:
        """The engine is there: what may run (again) runs, what may not gets an error."""
        for task_id in self._ledger.open():
            task = self._journal.unfinished[task_id].task
            if task is None:
                self._answer(task_id, results.lost(task_id, [DamagedError()]))
            else:
                self._resume(task, self._handed[task_id])
        self._journal.unfinished.clear()

    def fail(self, reason: Exception) -> None:
        """The engine broke: answer all tasks with the reason, and every later one."""
        self._failure = reason
        for task_id in self._ledger.open():
            self._answer(task_id, results.lost(task_id, [reason]))

    def leave(self) -> None:
        """The endpoint ends: no task is handed to the engine any more."""
        self._leaving = True

    def abandon(self, why: str, final: bool) -> None:
        """The engine has stopped: what may run (again) stays in the journal, for the next endpoint; not where it is
        `final`, for then nobody waits for that any more.
        """
        dispatched = self._journal.dispatched()
        for task_id in self._ledger.open():
            attempts = self._handed[task_id] - self._waited(task_id, dispatched)
            if not final and (attempts <= self._engine.retries or not attempts):
                self._journal.tried(task_id, attempts)
            elif not attempts:
                self._answer(task_id, results.not_started(task_id, f"the endpoint was shut down ({why}) before that"))
            else:
                failures = [InterruptedTaskError(f"shut down ({why})", self._engine.retries)] * attempts
                self._answer(task_id, results.lost(task_id, failures))

    def _taken(self, task: Task, error: OSError | None) -> None:
        if error is not None:
            self._answer(task.id, results.not_started(task.id, _full(error)))
        elif self._audit is None:
            self._start(task, [])
        else:
            self._audit.write(
                task.id, task.function_id, *("RECEIVED", "EXEC_START"), written=partial(self._try, task, [])
            )

    def _resume(self, task: Task, attempts: int) -> None:
        interrupted = InterruptedTaskError("interrupted: its process or its host died", self._engine.retries)
        failures: list[BaseException] = [interrupted] * attempts
        if not attempts and self._audit is not None:
            self._taken(task, None)
        elif not attempts or attempts <= self._engine.retries:
            self._try(task, failures)
        else:
            self._record(task, "FAILED - Its endpoint was interrupted")
            self._answer(task.id, results.lost(task.id, failures))

    def _try(self, task: Task, failures: list[BaseException]) -> None:
        "Hand a task to the engine when the journal says so; not at all where the disk doesn't take that."

        def safe(error: OSError | None) -> None:
            if error is None:
                self._start(task, failures)
            else:
                self._answer(task.id, results.lost(task.id, [*failures, OSError(_full(error))]))

        self._ledger.trying(task.id, len(failures) + 1, safe)

    def _start(self, task: Task, failures: list[BaseException]) -> None:
        if self._failure is not None:
            self._answer(task.id, results.lost(task.id, [*failures, self._failure]))
        elif not self._leaving:
            self._submit(task, failures)

    def _record(self, task: Task, *states: str) -> None:
        if self._audit is not None:
            self._audit.write(task.id, task.function_id, *states)

    def _submit(self, task: Task, failures: list[BaseException]) -> None:
        self._handed[task.id] = len(failures) + 1
        self._here.add(task.id)
        try:
            future = self._engine.submit(task)
        except Exception as error:
            log.exception("Task %s can't be started", task.id)
            self._record(task, "FAILED - It can't be started")
            self._answer(task.id, results.not_started(task.id, error))
            return
        future.add_done_callback(partial(self._tell_loop, task, failures))

    def _tell_loop(self, task: Task, failures: list[BaseException], future: Future[bytes]) -> None:
        "From any thread; the loop is woken once for all that end until it comes to them."
        self._ended.append((task, failures, future))
        if not self._woken:
            self._woken = True
            with suppress(RuntimeError):  # the loop is closed: the endpoint has ended
                self._loop.call_soon_threadsafe(self._take_ended)

    def _take_ended(self) -> None:
        self._woken = False  # first: what comes from now on wakes again
        while self._ended:
            self._loop.call_soon(self._finished, *self._ended.popleft())

    def _finished(self, task: Task, failures: list[BaseException], future: Future[bytes]) -> None:
        if future.cancelled():  # by the engine's end, before it began
            self._handed[task.id] -= 1
            self._here.discard(task.id)
            return
        error = future.exception()
        if error is None:
            self._record(task, "EXEC_END")
            self._answer(task.id, future.result())
        elif not self._leaving:
            self._lost(task, [*failures, error])

    def _waited(self, task_id: str, dispatched: Set[str] | None) -> bool:
        "Whether the engine has given it to no worker yet."
        return dispatched is not None and task_id in self._here and task_id not in dispatched

    def _lost(self, task: Task, failures: list[BaseException]) -> None:
        log.warning("Task %s was lost: %s: %s", task.id, type(failures[-1]).__name__, texts.text_of(failures[-1]))
        if self._failure is None and self._waited(task.id, self._journal.dispatched()):
            self._submit(task, failures[:-1])  # that was no attempt
        elif len(failures) <= self._engine.retries and self._failure is None:
            self._try(task, failures)
        else:
            self._record(task, "FAILED - It was lost")
            self._answer(task.id, results.lost(task.id, failures, self._hint()))

    def _answer(self, task_id: str, result: bytes) -> None:
        self._handed.pop(task_id, None)
        self._here.discard(task_id)
        self._ledger.answer(task_id, result)


def _full(error: OSError) -> str:
    return (
        f"the endpoint can't note the task on disk ({error.strerror}). Free some space in your home directory, "
        "or ask for more, then submit the task again"
    )
