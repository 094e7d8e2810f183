"""The life of a user endpoint: start of engine and connections, tasks and heartbeats, shutdown."""

import asyncio
import logging
import os
import signal

from setproctitle import setproctitle
from twinlock_common.amqp.consumer import Message
from twinlock_common.amqp.errors import LinkError, LinkRefused
from twinlock_common.log_ration import LogRation
from twinlock_common.offload import in_thread

from twinlock_endpoint.engines.base import Place
from twinlock_endpoint.errors import EngineError
from twinlock_endpoint.home import pid_file
from twinlock_endpoint.journal import journal
from twinlock_endpoint.journal.journal import Journal
from twinlock_endpoint.life.assembly import Setup, assemble
from twinlock_endpoint.life.clocks import Outage, Quiet
from twinlock_endpoint.life.states import TABLE, Action, Event, State
from twinlock_endpoint.manager.start_report import StartReport
from twinlock_endpoint.queues import deliveries

log = logging.getLogger(__name__)

_FLUSH_S = 5.0
_ENGINE_STOP_S = 30.0
_QUIET_S = 3.0  # a busy RabbitMQ may take one to answer
_OFFLINE_S = 300.0


def live(setup: Setup, report: StartReport) -> int:
    """Run an endpoint from start to end, and return the exit code. Raise `StartError` if it can't start."""

    async def whole() -> int:
        left = await in_thread(lambda: journal.read(setup.folder))
        return await life(setup, report, Journal(left))

    # Not asyncio.run: that waits for a name lookup that hangs, at the end.
    return asyncio.new_event_loop().run_until_complete(whole())


async def life(setup: Setup, report: StartReport, journal: Journal) -> int:
    """Run an endpoint in the running loop, see `live`."""
    return await _Endpoint(setup, report, journal).run()


class _Endpoint:
    def __init__(self, setup: Setup, report: StartReport, journal: Journal) -> None:
        self._journal = journal
        self._setup = setup
        self._report = report
        self._loop = asyncio.get_running_loop()
        self._state = State.STARTING
        self._engine_started = False
        self._outage = Outage()
        self._quiet = Quiet(_QUIET_S, self._consider_quiet)
        self._wake = asyncio.Event()
        self._code = os.EX_OK
        self._why = ""
        self._final = False
        self._log = LogRation(log)
        self._parts = assemble(setup, journal, self)
        self._parts.tasks.adopt()

    async def run(self) -> int:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGINT):
            self._loop.add_signal_handler(number, self._end, number.name)
        self._parts.connections.open()
        watch = pid_file.watch(self._setup.folder, self._end_for_user)
        beside = [self._loop.create_task(work) for work in (self._parts.manager.run(), watch)]
        try:
            await self._start_engine()
            # Not before: an engine can't be asked for its figures while it starts.
            beside.append(self._loop.create_task(self._parts.reports.run()))
            await self._beat()
        finally:
            await self._shut_down()
            for task in beside:
                task.cancel()
        return self._code

    # What happens, and what follows.

    @property
    def _stops(self) -> bool:
        return self._state is State.STOPPING

    def _happens(self, event: Event, reason: Exception | None = None) -> None:
        following = TABLE.get((self._state, event))
        if following is None:
            return
        self._state, action = following
        match action:
            case Action.TAKE_TASKS:
                self._parts.tasks.engine_runs()
                self._parts.consumer.begin()
            case Action.FAIL_TASKS:
                assert reason is not None
                self._fail_tasks(reason)
            case Action.STOP:
                self._wake.set()

    async def _start_engine(self) -> None:
        setup = self._setup
        place = Place(setup.document.endpoint_id, setup.folder, self._engine_failed, setup.origin)
        try:
            await in_thread(lambda: setup.engine.start(place))
        except Exception as error:
            log.exception("The engine did not start")
            reason = EngineError(f"The endpoint's engine did not start: {error}")
            if not self._report.is_over:
                raise reason from error
            self._happens(Event.ENGINE_FAILED, reason)  # its tasks get the reason, those that come included
        self._engine_started = True
        self._happens(Event.ENGINE_STARTED)

    def _engine_failed(self, reason: Exception) -> None:
        """Take the engine's failure into the loop; called from any thread."""
        self._loop.call_soon_threadsafe(self._happens, Event.ENGINE_FAILED, reason)

    def _fail_tasks(self, reason: Exception) -> None:
        log.error("The engine can't run tasks any more: %s", reason)
        self._parts.tasks.fail(reason)
        self._code = os.EX_UNAVAILABLE
        self._quiet.begin()

    def _consider_quiet(self) -> None:
        """Shut down if the engine has failed, no task is left and nothing comes any more.

        Silence doesn't count without a connection, nor while a slow disk or RabbitMQ has results to make safe.
        """
        if self._state is State.FAILING and not len(self._parts.ledger) and not self._outage.lasts:
            self._stop(Event.QUIET, "the engine failed")

    def _end(self, why: str) -> None:
        self._stop(Event.END, why)

    def _stop(self, event: Event, why: str) -> None:
        log.info("Shutting down: %s", why)
        self._why = self._why or why
        self._happens(event)

    def end_for_all(self, why: str) -> None:
        """Shut down; no other endpoint is to go on with what is left."""
        self._final = True
        self._end(why)

    def _end_for_user(self, why: str) -> None:
        self._parts.manager.tell_stop()
        self.end_for_all(why)

    def _give_up(self, code: int, reason: str) -> None:
        self._code = code
        self._report.fail(reason)
        self._end(reason)

    # The queues.

    def deliver(self, delivery: Message) -> None:
        """Take a message of the task queue."""
        self._quiet.something_came()
        task_id = deliveries.task_id(delivery)
        if task_id is None:
            self._log.warning("queue", "A message of %d bytes is no task; it is dropped", len(delivery.body))
            delivery.reject()
        else:
            self._parts.window.offer(task_id, delivery)

    def consuming(self) -> None:
        """Note that the task queue is connected and sends tasks."""
        log.info("Tasks are consumed")
        self._outage.end()
        self._quiet.something_came()
        self._wake.set()

    def link_down(self, reason: LinkError) -> None:
        """Note that a connection couldn't be made, or is lost.

        An endpoint with tasks waits without a limit, since they are worth it. One without tasks that nobody reaches
        ends.
        """
        self._outage.begin()
        self._parts.manager.look_for_credentials()
        if len(self._parts.ledger) or self._stops:
            return
        if isinstance(reason, LinkRefused):
            self._give_up(os.EX_NOPERM, "RabbitMQ refused the endpoint's credentials.")
        elif self._outage.seconds > _OFFLINE_S:
            self._give_up(os.EX_TEMPFAIL, "The endpoint can't reach RabbitMQ.")

    # Heartbeats.

    async def _beat(self) -> None:
        """Send a heartbeat each period, and one at once with each new connection; none while no task is consumed."""
        period_s = self._setup.config.heartbeat_period
        while not self._stops:
            try:
                async with asyncio.timeout(period_s):
                    await self._wake.wait()
            except TimeoutError:
                self._consider_idleness()
                self._setup.output.rotate()
            self._wake.clear()
            if not self._outage.lasts and not self._stops:
                await self._parts.heartbeats.send(period_s)
                self._report.online()

    def _consider_idleness(self) -> None:
        if not len(self._parts.ledger):
            self._journal.none_dispatched()
        idle = self._parts.idle.beat(self._parts.ledger.received, self._parts.ledger.settled)
        setproctitle(idle.title(self._setup.title))
        if idle.over:
            self.end_for_all(idle.word)

    # The end.

    async def _shut_down(self) -> None:
        """Send results, as far as there is a connection; what is left stays in the journal for the next endpoint."""
        self._state = State.STOPPING
        self._parts.window.end()
        self._parts.consumer.end()
        self._parts.tasks.leave()
        if self._engine_started:
            self._parts.heartbeats.tell_manager()
        await self._stop_engine()
        if self._engine_started:
            self._parts.tasks.abandon(self._why, self._final)
        else:
            self._parts.tasks.keep_all()
        await self._parts.tasks.drain(_FLUSH_S)
        await self._parts.task_log.close(_FLUSH_S)
        await self._journal.close(_FLUSH_S)
        self._parts.manager.backlog.say()
        await self._parts.manager.drain(_FLUSH_S)
        await self._parts.heartbeats.send_last(_FLUSH_S)
        await self._parts.connections.close()
        log.info("Ended; %d tasks stay in the journal", self._parts.ledger.kept)

    async def _stop_engine(self) -> None:
        stopping = in_thread(self._setup.engine.stop)
        done, _ = await asyncio.wait([stopping], timeout=_ENGINE_STOP_S)
        if not done:
            log.error("The engine did not stop within %.0f s", _ENGINE_STOP_S)
        elif stopping.exception() is not None:
            log.error("The engine did not stop cleanly", exc_info=stopping.exception())
