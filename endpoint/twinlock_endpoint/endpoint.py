"""The life of a user endpoint: engine and connections up, tasks and heartbeats, down."""

import asyncio
import logging
import os
import signal
from dataclasses import dataclass
from pathlib import Path

from setproctitle import setproctitle
from twinlock_common.document import Document
from twinlock_common.offload import in_thread

from twinlock_endpoint.config.configuration import Config
from twinlock_endpoint.engines.base import Engine, Place
from twinlock_endpoint.errors import EngineError
from twinlock_endpoint.home.output import Output
from twinlock_endpoint.journal import journal
from twinlock_endpoint.journal.journal import Journal
from twinlock_endpoint.manager.heartbeats import Heartbeats
from twinlock_endpoint.manager.manager import Manager
from twinlock_endpoint.manager.start_report import StartReport
from twinlock_endpoint.queues import deliveries
from twinlock_endpoint.queues.connection import REFUSED
from twinlock_endpoint.queues.connections import Connections
from twinlock_endpoint.queues.consumer import Delivery, TaskConsumer
from twinlock_endpoint.tasks import window
from twinlock_endpoint.tasks.idle import IdleClock
from twinlock_endpoint.tasks.ledger import Ledger
from twinlock_endpoint.tasks.life import Tasks
from twinlock_endpoint.worker.python_versions import mismatch

log = logging.getLogger(__name__)

_FLUSH_S = 5.0
_ENGINE_STOP_S = 30.0
_QUIET_S = 3.0  # a busy RabbitMQ may take one to answer
_OFFLINE_S = 300.0
_PREFETCH = 64  # hides the round trip of short tasks, and of an acknowledgement that waits for the disk


@dataclass(frozen=True, slots=True)
class Setup:
    """What the endpoint runs with."""

    title: str
    folder: Path
    document: Document
    config: Config
    engine: Engine
    output: Output


def live(setup: Setup, report: StartReport) -> int:
    """Run an endpoint from start to end; the exit code. StartError where it can't start."""

    async def life() -> int:
        found = await in_thread(lambda: journal.read(setup.folder))
        return await _Endpoint(setup, report, Journal(found)).run()

    # Not asyncio.run: that waits for a name lookup that hangs, at the end.
    return asyncio.new_event_loop().run_until_complete(life())


class _Endpoint:
    def __init__(self, setup: Setup, report: StartReport, journal: Journal) -> None:
        document, config = setup.document, setup.config
        self._journal = journal
        self._setup = setup
        self._report = report
        self._loop = asyncio.get_running_loop()
        self._idle = IdleClock(
            config.idle_heartbeats_soft, config.idle_heartbeats_hard, config.heartbeat_period, document.restarted
        )
        self._offline_since: float | None = self._loop.time()
        self._engine_runs = False
        self._stopping = False
        self._wake = asyncio.Event()
        self._quiet: asyncio.TimerHandle | None = None
        self._code = os.EX_OK
        self._why = ""
        self._final = False
        limit = window.size(setup.engine.max_workers)
        prefetch = min(limit, _PREFETCH)
        self._consumer = TaskConsumer(
            document.queues.tasks.queue, prefetch, self._deliver, self._consuming, lambda: self._window.lost()
        )
        self._connections = Connections(document.queues, config, self._consumer, self._link_down)
        self._manager = Manager(document, self._connections, self._end)
        self._ledger = Ledger(journal, self._consumer.ack, self._connections.publish_result, prefetch)
        self._ledger.kept_changed = self._manager.backlog.changed
        self._heartbeats = Heartbeats(
            document, config.raw, setup.engine.figures, self._connections, self._manager, self._ledger.figures
        )
        self._ledger.refused_changed = self._heartbeats.tell_manager
        self._tasks = Tasks(
            document.endpoint_id,
            setup.engine,
            config.permitted(document.allowed_functions),
            self._ledger,
            journal,
            lambda: mismatch(self._heartbeats.figures),
            self._manager.audit,
        )
        self._window = window.Window(self._consumer, self._ledger, limit, self._tasks.take)
        self._tasks.adopt()

    async def run(self) -> int:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGINT):
            self._loop.add_signal_handler(number, self._stop, number.name)
        self._connections.open()
        manager = self._loop.create_task(self._manager.run())
        try:
            await self._start_engine()
            self._engine_runs = True
            if not self._stopping:
                self._tasks.resume()
                self._consumer.begin()
            await self._beat()
        finally:
            await self._shut_down()
            manager.cancel()
        return self._code

    async def _start_engine(self) -> None:
        place = Place(self._setup.document.endpoint_id, self._setup.folder, self._engine_failed)
        try:
            await in_thread(lambda: self._setup.engine.start(place))
        except Exception as error:
            log.exception("The engine did not start")
            raise EngineError(f"The endpoint's engine did not start: {error}") from error

    async def _beat(self) -> None:
        "A heartbeat each period, and one at once when the connection comes (back); none while no task is consumed."
        period_s = self._setup.config.heartbeat_period
        while not self._stopping:
            try:
                await asyncio.wait_for(self._wake.wait(), period_s)
            except TimeoutError:
                self._consider_idleness()
                self._setup.output.rotate()
            self._wake.clear()
            if self._offline_since is None and not self._stopping:
                await self._heartbeats.send(period_s)
                self._report.online()

    def _consider_idleness(self) -> None:
        if not len(self._ledger):
            self._journal.none_dispatched()
        idle = self._idle.beat(self._ledger.received, self._ledger.settled)
        setproctitle(idle.title(self._setup.title))
        if idle.over:
            self._end(idle.word)

    def _deliver(self, delivery: Delivery) -> None:
        if self._quiet is not None:
            self._stop_when_quiet()
        task_id = deliveries.task_id(delivery)
        if task_id is None:
            log.error("A message of %d bytes is no task; it is dropped", len(delivery.body))
            self._consumer.reject(delivery)
        else:
            self._window.offer(task_id, delivery)

    def _consuming(self) -> None:
        log.info("Tasks are consumed")
        self._offline_since = None
        if self._quiet is not None:
            self._stop_when_quiet()
        self._wake.set()

    def _link_down(self, reason: BaseException) -> None:
        "Tasks in flight are worth waiting for without end; an endpoint without any that nobody reaches is not."
        self._offline_since = self._offline_since or self._loop.time()
        self._manager.look_for_credentials()
        if len(self._ledger) or self._stopping:
            return
        if isinstance(reason, REFUSED):
            self._give_up(os.EX_NOPERM, "The task queue's broker refused the endpoint's credentials.")
        elif self._loop.time() - self._offline_since > _OFFLINE_S:
            self._give_up(os.EX_TEMPFAIL, "The endpoint can't reach the task queue's broker.")

    def _engine_failed(self, reason: Exception) -> None:
        "Called from any thread."
        self._loop.call_soon_threadsafe(self._fail, reason)

    def _fail(self, reason: Exception) -> None:
        "Answer everything with the reason: what is here, and what the queue still sends until it falls quiet."
        if self._stopping or self._quiet is not None:  # Parsl's poller tells it each time that it looks
            return
        log.error("The engine can't run tasks any more: %s", reason)
        self._tasks.fail(reason)
        self._code = os.EX_UNAVAILABLE
        self._stop_when_quiet()

    def _stop_when_quiet(self) -> None:
        if self._quiet is not None:
            self._quiet.cancel()
        self._quiet = self._loop.call_later(_QUIET_S, self._consider_quiet)

    def _consider_quiet(self) -> None:
        "Nothing comes without a connection, nor while a slow disk or RabbitMQ has answers to make safe."
        if len(self._ledger) or self._offline_since is not None:
            self._stop_when_quiet()
        else:
            self._stop("the engine failed")

    def _end(self, why: str) -> None:
        "Shut down; no other endpoint is to go on with what is left."
        self._final = True
        self._stop(why)

    def _give_up(self, code: int, reason: str) -> None:
        self._code = code
        self._report.fail(reason)
        self._stop(reason)

    def _stop(self, why: str) -> None:
        self._why = self._why or why
        log.info("Shutting down: %s", why)
        self._stopping = True
        self._wake.set()

    async def _shut_down(self) -> None:
        "Answers go out, as far as there is a connection; what is left then stays in the journal for the next endpoint."
        self._stopping = True
        self._window.end()
        self._consumer.end()
        self._tasks.leave()
        await self._stop_engine()
        if self._engine_runs:
            self._tasks.abandon(self._why, self._final)
        await self._ledger.drain(_FLUSH_S)
        await self._journal.close(_FLUSH_S)
        self._manager.backlog.say()
        await self._manager.drain(_FLUSH_S)
        await self._heartbeats.send_last(_FLUSH_S)
        await self._connections.close()
        log.info("Ended; %d tasks stay in the journal", self._ledger.kept)

    async def _stop_engine(self) -> None:
        stopping = in_thread(self._setup.engine.stop)
        done, _ = await asyncio.wait([stopping], timeout=_ENGINE_STOP_S)
        if not done:
            log.error("The engine did not stop within %.0f s", _ENGINE_STOP_S)
        elif stopping.exception() is not None:
            log.error("The engine did not stop cleanly", exc_info=stopping.exception())
