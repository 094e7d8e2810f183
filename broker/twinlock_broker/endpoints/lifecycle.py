"""The life of user endpoints: the registry's table says what follows from each event, and that is done here."""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from twinlock_wire import wire

from twinlock_broker import metrics
from twinlock_broker.compute.command import Credentials
from twinlock_broker.endpoints import registry
from twinlock_broker.endpoints.admission import BLOCKED
from twinlock_broker.endpoints.endpoint import Endpoint, Stopper
from twinlock_broker.endpoints.last_words import STOPPED, last_words
from twinlock_broker.endpoints.launcher import Launcher
from twinlock_broker.endpoints.output import Output
from twinlock_broker.endpoints.refusals import detail, explain
from twinlock_broker.endpoints.registry import TABLE, Action, Ending, Event, State, judge, restart_delay, settled

_WAITING = (State.RESTART_PENDING, State.BACKING_OFF)
_FAILURES = (Event.FAILED, Event.FAILED_TO_START, Event.CRASHED, Event.UNFINISHED)
_ACCOUNT_CHANGED = "its user has another account now"

PROGRAM = "program"
"""The stage of an endpoint that was started, and ended badly."""

log = logging.getLogger(__name__)

Tell = Callable[[Credentials, str, str, str], Coroutine[Any, Any, None]]
"""A function that tells a user a text, and the administrator a detail, under a command's id: `Notices.send`."""


@dataclass(slots=True)
class Listeners:
    """Who else has to know what happens to a running endpoint."""

    refreshed: Callable[[Endpoint], None] = lambda endpoint: None
    """Called if there are fresh credentials for it."""
    stopping: Callable[[Endpoint, str], None] = lambda endpoint, reason: None
    """Called when it is about to be stopped, with the reason."""
    failed: Callable[[Endpoint, str, str, str], None] = lambda endpoint, stage, reason, detail: None
    """Called when it couldn't be started, or has ended badly, with the stage, what a user is told of it, and what an
    administrator is.
    """


class Lifecycle:
    """What happens to the endpoints that `launcher` starts.

    `keep` is called after each change, `tell` if a user has to know. `grace` in seconds is mu_child_ep_grace_period_s.
    """

    def __init__(self, launcher: Launcher, grace: float, keep: Callable[[Endpoint], None], tell: Tell) -> None:
        self._launcher = launcher
        self._grace = grace
        self._keep = keep
        self._send = tell
        self._tasks: set[asyncio.Task[None]] = set()
        self.listeners = Listeners()
        """Who else is told what happens."""

    def on(self, endpoint: Endpoint, event: Event, text: str = "", detail: str = "") -> Action:
        """Put the endpoint into the state that follows from the event, and return what was done.

        If the table says that the user is told, `text` is for the user, and `detail` for the administrator.
        """
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

    def end(self, endpoint: Endpoint, status: int | None) -> Coroutine[Any, Any, None] | None:
        """Do what follows from the end of its process.

        If its last output isn't there yet, return a coroutine that waits for it and then does so.
        """
        if endpoint.ending:
            return None
        if endpoint.output is not None and endpoint.output.open:
            endpoint.ending = True
            return self._end_when_read(endpoint, endpoint.output, status)
        self._conclude(endpoint, status, time.monotonic())
        return None

    def wait(self, endpoint: Endpoint, delay: float) -> None:
        """Have the event DUE happen to it after `delay` seconds."""
        if endpoint.timer is not None:
            endpoint.timer.cancel()
        endpoint.timer = asyncio.get_running_loop().call_later(delay, self.on, endpoint, Event.DUE)

    def later(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` as a task of its own, for which `settle` waits."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def stop_text(self, endpoint: Endpoint) -> str:
        """Return what the user of a stopped endpoint is told: to submit again only if that helps."""
        refusal = self._launcher.refusal(endpoint)
        return explain(refusal, endpoint.user) if refusal is not None else STOPPED[_stopper(endpoint)]

    async def settle(self, limit: float) -> None:
        """Give notices that are on their way `limit` seconds."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=limit)

    def _act(self, endpoint: Endpoint, action: Action, text: str, detail: str) -> None:
        if action is Action.START:
            endpoint.launch = self.later(self._launch(endpoint))
        elif action in (Action.REMEMBER, Action.REFRESH, Action.REPLACE, Action.STOP):
            endpoint.has_newer_request = action is not Action.STOP
            if action is Action.REFRESH:
                self.listeners.refreshed(endpoint)
            elif action is not Action.REMEMBER:
                by_somebody = f"{_stopper(endpoint)} stopped it"
                self.listeners.stopping(endpoint, by_somebody if action is Action.STOP else _ACCOUNT_CHANGED)
                self.later(self._launcher.stop(endpoint))
        elif action is Action.STOP_AGAIN:
            self.later(self._launcher.stop(endpoint))
        elif action is Action.DELAY:
            self.wait(endpoint, max(0.0, endpoint.restart_at - time.monotonic()))
        elif action in (Action.TELL, Action.BACK_OFF):
            self._tell(endpoint, text, detail)
            if action is Action.BACK_OFF:
                self.wait(endpoint, registry.BACK_OFF)

    async def _launch(self, endpoint: Endpoint) -> None:
        """Have the newest request started. Wait until the spawner has answered, and a user whom it refused was told."""
        request = endpoint.request
        assert request is not None, "only a command leads here"
        endpoint.has_newer_request, endpoint.user, endpoint.wait_status = False, request.user, None
        endpoint.command, endpoint.stopped_by = request.command, None
        reply = await self._launcher.launch(endpoint, request)
        metrics.STARTS.labels(reply.stage if isinstance(reply, wire.Refused) else "started").inc()
        if isinstance(reply, wire.Refused):
            await self._refused(endpoint, reply)
            return
        endpoint.started, endpoint.pid = time.monotonic(), reply.pid
        metrics.START_SECONDS.observe(endpoint.started - endpoint.requested_at)
        self.on(endpoint, Event.SPAWNED)
        if endpoint.wait_status is not None:
            rest = self.end(endpoint, endpoint.wait_status)
            if rest is not None:
                await rest
        elif endpoint.has_newer_request and endpoint.request is not None and endpoint.request.user != endpoint.user:
            self.on(endpoint, Event.ACCOUNT_CHANGED)

    async def _refused(self, endpoint: Endpoint, reply: wire.Refused) -> None:
        """Try again later if there are unfinished tasks, else tell the user, and wait until that is done."""
        self.listeners.failed(endpoint, reply.stage, explain(reply, endpoint.user), detail(reply))
        if endpoint.has_unfinished_tasks and endpoint.crashes < registry.MAX_REVIVALS and reply.stage != BLOCKED:
            self._count(endpoint, Event.UNFINISHED)
            self.on(endpoint, Event.UNFINISHED)
            return
        self.on(endpoint, Event.REFUSED, explain(reply, endpoint.user), detail(reply))
        if endpoint.notice is not None:
            await endpoint.notice

    async def _end_when_read(self, endpoint: Endpoint, output: Output, status: int | None) -> None:
        now = time.monotonic()
        await output.finish()
        endpoint.ending = False
        self._conclude(endpoint, status, now)

    def _conclude(self, endpoint: Endpoint, status: int | None, now: float) -> None:
        ending, text = Ending(status, settled=True), ""  # an adopted endpoint was there long before this broker
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
        told = self.stop_text(endpoint) if stopping else last_words(ending, text, revivals)
        self._count(endpoint, event)
        endpoint.restarted = event in (Event.RESTART_WANTED, Event.CRASHED, Event.UNFINISHED)
        endpoint.pid = 0
        if event in _FAILURES:
            self.listeners.failed(endpoint, PROGRAM, told, str(ending))
        self.on(endpoint, event, told)

    def _count(self, endpoint: Endpoint, event: Event) -> None:
        endpoint.crashes = endpoint.crashes + 1 if event in (Event.CRASHED, Event.UNFINISHED) else 0
        endpoint.failed_starts = endpoint.failed_starts + 1 if event is Event.FAILED_TO_START else 0
        endpoint.restart_at = time.monotonic() + restart_delay(max(1, endpoint.crashes, endpoint.failed_starts))

    def _tell(self, endpoint: Endpoint, text: str, detail: str) -> None:
        if endpoint.request is None:
            log.warning("adopted, so that its user can't be told: %s", text, extra=_about(endpoint))
            return
        endpoint.notice = self.later(self._send(endpoint.request.credentials, text, detail, endpoint.command))

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a task failed unexpectedly", exc_info=task.exception())


def _stopper(endpoint: Endpoint) -> Stopper:
    """Return who stopped it; a record of an earlier version doesn't say, and then only the administrator could."""
    return endpoint.stopped_by or Stopper.ADMINISTRATOR


def _about(endpoint: Endpoint) -> dict[str, str]:
    about = {"endpoint": endpoint.id, "user": endpoint.user}
    about |= {"command": endpoint.command} if endpoint.command else {}
    return about | ({"mode": endpoint.mode} if endpoint.mode else {})
