"""The user endpoints: each command, answer and end goes through the registry's table, and its action is done here."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

from twinlock_wire import wire

from twinlock_broker import metrics, processes
from twinlock_broker.compute.command import Credentials
from twinlock_broker.endpoints import registry
from twinlock_broker.endpoints.admission import BLOCKED
from twinlock_broker.endpoints.endpoint import Endpoint
from twinlock_broker.endpoints.last_words import STOPPED, last_words
from twinlock_broker.endpoints.launcher import Launcher
from twinlock_broker.endpoints.output import Output
from twinlock_broker.endpoints.pipeline import StartRequest
from twinlock_broker.endpoints.refusals import detail, explain
from twinlock_broker.endpoints.registry import TABLE, Action, Ending, Event, State, judge, restart_delay, settled
from twinlock_broker.endpoints.store import Store

SETTLE_LIMIT = 5.0
"""Seconds that notices on their way get when the broker stops."""

_WAITING = (State.RESTART_PENDING, State.BACKING_OFF)
_ADMINISTRATOR = "the administrator stopped it"
_ACCOUNT_CHANGED = "its user has another account now"

log = logging.getLogger(__name__)

Tell = Callable[[Credentials, str, str, str], Coroutine[Any, Any, None]]
"""Tells a user a text, and the administrator a detail besides, under a command's id; `Notices.send`."""


class Supervisor:
    """All user endpoints of the manager `manager_id`. `grace` in seconds is mu_child_ep_grace_period_s."""

    def __init__(self, manager_id: str, grace: float, launcher: Launcher, store: Store, tell: Tell) -> None:
        self._prefix = f"uep.{manager_id}."
        self._grace = grace
        self._launcher = launcher
        self._store = store
        self._send = tell
        self._endpoints = {endpoint.id: endpoint for endpoint in store.load()}
        launcher.resume(self._endpoints.values())
        self._tasks: set[asyncio.Task[None]] = set()
        self.refreshed: Callable[[Endpoint], None] = lambda endpoint: None
        """Called with a running endpoint for which there are fresh credentials."""
        self.ended: Callable[[Endpoint, str], None] = lambda endpoint, reason: None
        """Called with a running endpoint that is about to be stopped, and why."""

    @property
    def endpoints(self) -> Iterable[Endpoint]:
        """All that there are."""
        return self._endpoints.values()

    def of_process(self, pid: int) -> Endpoint | None:
        """The running endpoint whose process id by the spawner's word is `pid`."""
        return next((endpoint for endpoint in self._endpoints.values() if pid and endpoint.pid == pid), None)

    async def command(self, request: StartRequest) -> None:
        """A start command; returns when its outcome is decided."""
        endpoint = self._endpoints.setdefault(request.id, Endpoint(request.id, request.user))
        event = Event.COMMAND if endpoint.user == request.user else Event.ACCOUNT_CHANGED
        endpoint.request, endpoint.requested_at = request, time.monotonic()
        if self._on(endpoint, event) is Action.START and endpoint.launch is not None:
            await endpoint.launch

    async def stop(self, endpoint_id: str) -> bool:
        """Stop an endpoint for the administrator; its user is told when it has ended. False where there is none."""
        endpoint = self._endpoints.get(endpoint_id)
        if endpoint is not None and endpoint.launch is not None:
            await asyncio.wait((endpoint.launch,))  # a start can't be taken back, but what it started can be stopped
        if endpoint is None or endpoint.state is None:
            return False
        self._on(endpoint, Event.STOP, self._stopped(endpoint))
        return True

    def note_unfinished(self, endpoint: Endpoint, tasks: int) -> None:
        """A running endpoint says how many unfinished tasks its journal has; without any it has settled."""
        if not tasks:
            endpoint.crashes = 0
        if endpoint.has_unfinished_tasks != (tasks > 0) and endpoint.state is not None:
            endpoint.has_unfinished_tasks = tasks > 0
            self._keep(endpoint)

    def listed(self, children: Sequence[wire.Child]) -> None:
        """The spawner's table: unknown children are adopted, known ones that are not in it have ended unseen."""
        table = {child.id: child for child in children if child.name.startswith(self._prefix)}
        for child in table.values():
            if child.ended is None and child.id not in self._endpoints:
                endpoint = self._endpoints[child.id] = Endpoint(child.id, child.user)
                endpoint.started = endpoint.requested_at = time.monotonic()
                self._on(endpoint, Event.ADOPTED)
        for endpoint in list(self._endpoints.values()):
            self._compare(endpoint, table.get(endpoint.id))

    def exited(self, child: str, status: int) -> Coroutine[Any, Any, None] | None:
        """A child ended with the wait status `status`. What has to be waited for until that is dealt with, or None."""
        endpoint = self._endpoints.get(child)
        if endpoint is not None and endpoint.state is State.STARTING:
            endpoint.wait_status = status  # so soon that the answer "spawned" wasn't looked at yet
        elif endpoint is not None and endpoint.state in (State.RUNNING, State.STOPPING):
            return self._end(endpoint, status)
        else:
            log.info("ended with wait status %d; nobody here waits for it", status, extra={"endpoint": child})
        return None

    def summary(self) -> str:
        """How many endpoints there are in which state, for people."""
        states = Counter(endpoint.state.value for endpoint in self._endpoints.values() if endpoint.state)
        return "user endpoints: " + (", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "none")

    async def settle(self) -> None:
        """Give notices that are on their way a moment."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=SETTLE_LIMIT)

    def _compare(self, endpoint: Endpoint, child: wire.Child | None) -> None:
        """What the spawner's table says about `endpoint`, whose state may be of an earlier broker's time.

        A start whose end no broker saw is made again: the broker that made it may be why it failed, and the command of
        one that was killed is delivered again in any case.
        """
        running = child is not None and child.ended is None
        endpoint.pid = child.pid if child and running else 0
        if endpoint.pid and endpoint.launch is None:  # an earlier broker started it
            endpoint.started = processes.started(endpoint.pid) or endpoint.started
        if endpoint.state in (State.RUNNING, State.STOPPING) and not running:
            rest = self._end(endpoint, child.ended if child else None)
            if rest is not None:
                self._later(rest)
        elif endpoint.state is State.STARTING and endpoint.launch is None:
            self._on(endpoint, Event.SPAWNED if running else Event.RESUMED)
        elif endpoint.state is State.RESTART_PENDING and endpoint.timer is None:
            self._wait(endpoint, max(0.0, endpoint.restart_at - time.monotonic()))
        elif endpoint.state is State.BACKING_OFF and endpoint.timer is None:
            self._wait(endpoint, registry.BACK_OFF)

    def _on(self, endpoint: Endpoint, event: Event, text: str = "", detail: str = "") -> Action:
        step = TABLE.get((endpoint.state, event))
        if step is None:
            log.error("%s, which can't be while it is %s", event.value, endpoint.state, extra=_about(endpoint))
            return Action.NOTHING
        endpoint.state, action = step
        follows = "" if action is Action.NOTHING else f"; {action.value}"
        log.info("%s%s", event.value, follows, extra=_about(endpoint))
        if endpoint.timer is not None and endpoint.state not in _WAITING:
            endpoint.timer.cancel()
        self._act(endpoint, action, text, detail)
        self._keep(endpoint)
        return action

    def _keep(self, endpoint: Endpoint) -> None:
        if endpoint.state is not None:
            self._store.save(endpoint)
        elif self._endpoints.pop(endpoint.id, None) is not None:
            self._store.remove(endpoint)

    def _act(self, endpoint: Endpoint, action: Action, text: str, detail: str) -> None:
        if action is Action.START:
            endpoint.launch = self._later(self._launch(endpoint))
        elif action in (Action.REMEMBER, Action.REFRESH, Action.REPLACE, Action.STOP):
            endpoint.has_newer_request = action is not Action.STOP
            if action is Action.REFRESH:
                self.refreshed(endpoint)
            elif action is not Action.REMEMBER:
                self.ended(endpoint, _ADMINISTRATOR if action is Action.STOP else _ACCOUNT_CHANGED)
                self._later(self._launcher.stop(endpoint))
        elif action is Action.DELAY:
            self._wait(endpoint, max(0.0, endpoint.restart_at - time.monotonic()))
        elif action in (Action.TELL, Action.BACK_OFF):
            self._tell(endpoint, text, detail)
            if action is Action.BACK_OFF:
                self._wait(endpoint, registry.BACK_OFF)

    def _wait(self, endpoint: Endpoint, delay: float) -> None:
        if endpoint.timer is not None:
            endpoint.timer.cancel()
        endpoint.timer = asyncio.get_running_loop().call_later(delay, self._on, endpoint, Event.DUE)

    async def _launch(self, endpoint: Endpoint) -> None:
        """Have the newest request started; ends when the spawner has answered, and a user whom it refused knows."""
        request = endpoint.request
        assert request is not None, "only a command leads here"
        endpoint.has_newer_request, endpoint.user, endpoint.wait_status = False, request.user, None
        endpoint.command = request.command
        reply = await self._launcher.launch(endpoint, request)
        metrics.STARTS.labels(reply.stage if isinstance(reply, wire.Refused) else "started").inc()
        if isinstance(reply, wire.Refused):
            await self._refused(endpoint, reply)
            return
        endpoint.started, endpoint.pid = time.monotonic(), reply.pid
        metrics.START_SECONDS.observe(endpoint.started - endpoint.requested_at)
        self._on(endpoint, Event.SPAWNED)
        if endpoint.wait_status is not None:
            rest = self._end(endpoint, endpoint.wait_status)
            if rest is not None:
                await rest
        elif endpoint.has_newer_request and endpoint.request is not None and endpoint.request.user != endpoint.user:
            self._on(endpoint, Event.ACCOUNT_CHANGED)

    async def _refused(self, endpoint: Endpoint, reply: wire.Refused) -> None:
        """Try again later for the sake of unfinished tasks, else tell the user, and wait until that is done."""
        if endpoint.has_unfinished_tasks and endpoint.crashes < registry.MAX_REVIVALS and reply.stage != BLOCKED:
            self._count(endpoint, Event.UNFINISHED)
            self._on(endpoint, Event.UNFINISHED)
            return
        self._on(endpoint, Event.REFUSED, explain(reply, endpoint.user), detail(reply))
        if endpoint.notice is not None:
            await endpoint.notice

    def _stopped(self, endpoint: Endpoint) -> str:
        """What the user of an endpoint that was stopped is told: to submit again only where that helps."""
        refusal = self._launcher.refusal(endpoint)
        return STOPPED if refusal is None else explain(refusal, endpoint.user)

    def _end(self, endpoint: Endpoint, status: int | None) -> Coroutine[Any, Any, None] | None:
        """Do what follows from its end; where its last output isn't there yet, what has to be waited for first."""
        if endpoint.ending:
            return None
        if endpoint.output is not None and endpoint.output.open:
            endpoint.ending = True
            return self._end_when_read(endpoint, endpoint.output, status)
        self._conclude(endpoint, status, time.monotonic())
        return None

    async def _end_when_read(self, endpoint: Endpoint, output: Output, status: int | None) -> None:
        now = time.monotonic()
        await output.finish()
        endpoint.ending = False
        self._conclude(endpoint, status, now)

    def _conclude(self, endpoint: Endpoint, status: int | None, now: float) -> None:
        ending, text = Ending(status, settled=True), ""  # an adopted one was there long before us
        if endpoint.output is not None:
            text = endpoint.output.text
            ending = Ending(status, settled(now, endpoint.started, endpoint.output.closed_at))
        assert endpoint.state is not None, "an endpoint that ends has a state"
        stopping = endpoint.state is State.STOPPING
        restart_wanted = endpoint.has_newer_request and (stopping or now - endpoint.requested_at <= self._grace)
        if now - endpoint.started >= registry.STEADY:
            endpoint.crashes = 0
        event = judge(ending, endpoint.state, restart_wanted, endpoint.crashes, endpoint.has_unfinished_tasks)
        revivals = endpoint.crashes if endpoint.has_unfinished_tasks else 0
        told = self._stopped(endpoint) if stopping else last_words(ending, text, revivals)
        self._count(endpoint, event)
        endpoint.restarted = event in (Event.RESTART_WANTED, Event.CRASHED, Event.UNFINISHED)
        endpoint.pid = 0
        self._on(endpoint, event, told)

    def _count(self, endpoint: Endpoint, event: Event) -> None:
        endpoint.crashes = endpoint.crashes + 1 if event in (Event.CRASHED, Event.UNFINISHED) else 0
        endpoint.failed_starts = endpoint.failed_starts + 1 if event is Event.FAILED_TO_START else 0
        endpoint.restart_at = time.monotonic() + restart_delay(max(1, endpoint.crashes, endpoint.failed_starts))

    def _tell(self, endpoint: Endpoint, text: str, detail: str) -> None:
        if endpoint.request is None:
            log.warning("adopted, so that its user can't be told: %s", text, extra=_about(endpoint))
            return
        endpoint.notice = self._later(self._send(endpoint.request.credentials, text, detail, endpoint.command))

    def _later(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a task failed unexpectedly", exc_info=task.exception())


def _about(endpoint: Endpoint) -> dict[str, str]:
    about = {"endpoint": endpoint.id, "user": endpoint.user}
    return about | ({"command": endpoint.command} if endpoint.command else {})
