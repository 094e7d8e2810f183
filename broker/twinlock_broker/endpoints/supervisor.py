"""The user endpoints: each command, answer and end goes through the registry's table, and its action is done here."""

import asyncio
import contextlib
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from twinlock_shared import wire

from twinlock_broker.compute.command import Credentials
from twinlock_broker.endpoints.output import Output
from twinlock_broker.endpoints.refusals import explain
from twinlock_broker.endpoints.registry import TABLE, Action, Ending, Event, State, judge, restart_delay, settled
from twinlock_broker.endpoints.start import StartRequest
from twinlock_broker.endpoints.turns import Turns
from twinlock_broker.spawner.client import SpawnerClient

SETTLE_LIMIT = 5.0
"""Seconds that notices on their way get when the broker stops."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Endpoint:
    """One user endpoint. `request` is the newest; `waiting` says that it is newer than the process.

    Times are time.monotonic(), `ended` is a wait status. An adopted endpoint was there before this broker: it has no
    output.
    """

    id: str
    user: str
    state: State | None = None
    request: StartRequest | None = None
    waiting: bool = False
    arrived: float = 0.0
    started: float = 0.0
    ended: int | None = None
    output: Output | None = None
    crashes: int = 0
    restarted: bool = False
    launch: asyncio.Task[None] | None = None
    notice: asyncio.Task[None] | None = None


Tell = Callable[[Credentials, str, str], Coroutine[Any, Any, None]]
"""Tells a user a text, and the administrator a detail besides; `Notices.send`."""


class Supervisor:
    """All user endpoints of the manager `manager_id`. `grace` in seconds is mu_child_ep_grace_period_s."""

    def __init__(self, manager_id: str, grace: float, spawner: SpawnerClient, tell: Tell) -> None:
        self._prefix = f"uep.{manager_id}."
        self._grace = grace
        self._spawner = spawner
        self._send = tell
        self._turns = Turns()
        self._endpoints: dict[str, Endpoint] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def command(self, request: StartRequest) -> None:
        """A start command; returns when its outcome is decided."""
        endpoint = self._endpoints.setdefault(request.id, Endpoint(request.id, request.user))
        event = Event.COMMAND if endpoint.user == request.user else Event.MOVED
        endpoint.request, endpoint.arrived = request, time.monotonic()
        if self._on(endpoint, event) is Action.START and endpoint.launch is not None:
            await endpoint.launch

    def listed(self, children: Sequence[wire.Child]) -> None:
        """The spawner's table: unknown children are adopted, known ones that are not in it have ended unseen."""
        table = {child.id: child for child in children if child.name.startswith(self._prefix)}
        for child in table.values():
            if child.ended is None and child.id not in self._endpoints:
                endpoint = self._endpoints[child.id] = Endpoint(child.id, child.user)
                endpoint.started = endpoint.arrived = time.monotonic()
                self._on(endpoint, Event.ADOPTED)
        for endpoint in list(self._endpoints.values()):
            if endpoint.state in (State.RUNNING, State.STOPPING) and endpoint.id not in table:
                self._end(endpoint, None)

    def exited(self, child: str, status: int) -> None:
        """A child ended with the wait status `status`."""
        endpoint = self._endpoints.get(child)
        if endpoint is not None and endpoint.state is State.STARTING:
            endpoint.ended = status  # so soon that the answer "spawned" wasn't looked at yet
        elif endpoint is not None and endpoint.state in (State.RUNNING, State.STOPPING):
            self._end(endpoint, status)
        else:
            log.info("endpoint %s ended with wait status %d; nobody here waits for it", child, status)

    def summary(self) -> str:
        """How many endpoints there are in which state, for people."""
        states = Counter(endpoint.state.value for endpoint in self._endpoints.values() if endpoint.state)
        return "user endpoints: " + (", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "none")

    async def settle(self) -> None:
        """Give notices that are on their way a moment."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=SETTLE_LIMIT)

    def _on(self, endpoint: Endpoint, event: Event, text: str = "", detail: str = "") -> Action:
        step = TABLE.get((endpoint.state, event))
        if step is None:
            log.error("endpoint %s: %s, which can't be while it is %s", endpoint.id, event.value, endpoint.state)
            return Action.NOTHING
        before, (endpoint.state, action) = endpoint.state, step
        follows = "" if action is Action.NOTHING else f"; {action.value}"
        log.info("endpoint %s of %s: %s%s", endpoint.id, endpoint.user, event.value, follows)
        if endpoint.state is None and before is not None:
            del self._endpoints[endpoint.id]
        self._act(endpoint, action, text, detail)
        return action

    def _act(self, endpoint: Endpoint, action: Action, text: str, detail: str) -> None:
        if action is Action.START:
            endpoint.launch = self._later(self._launch(endpoint))
        elif action in (Action.REMEMBER, Action.REPLACE):
            endpoint.waiting = True
            if action is Action.REPLACE:
                self._later(self._spawner.signal(endpoint.id, "TERM"))
        elif action is Action.DELAY:
            delay = restart_delay(endpoint.crashes)
            asyncio.get_running_loop().call_later(delay, self._on, endpoint, Event.DUE)
        elif action is Action.TELL:
            self._tell(endpoint, text, detail)

    async def _launch(self, endpoint: Endpoint) -> None:
        """Have the newest request started; ends when the spawner has answered, and a user whom it refused knows."""
        request = endpoint.request
        assert request is not None, "only a command leads here"
        endpoint.waiting, endpoint.user, endpoint.ended = False, request.user, None
        reply = await self._spawn(endpoint, request)
        if isinstance(reply, wire.Refused):
            detail = f"spawner: {reply.stage}: {reply.reason}"
            self._on(endpoint, Event.REFUSED, explain(reply, request.user), detail)
            if endpoint.notice is not None:
                await endpoint.notice
            return
        endpoint.started = time.monotonic()
        self._on(endpoint, Event.SPAWNED)
        if endpoint.ended is not None:
            self._end(endpoint, endpoint.ended)
        elif endpoint.waiting and endpoint.request is not None and endpoint.request.user != endpoint.user:
            self._on(endpoint, Event.MOVED)

    async def _spawn(self, endpoint: Endpoint, request: StartRequest) -> wire.Spawned | wire.Refused:
        spawn = wire.Spawn(request.id, request.user, request.name, request.program)
        try:
            with contextlib.ExitStack() as stack:
                endpoint.output = Output()
                stack.callback(endpoint.output.close_writer)
                document = request.document.seal(self._spawner.pid(), endpoint.restarted)
                stack.callback(os.close, document)
                fds = document, endpoint.output.writer
                reply = await self._turns.take(request.user, lambda: self._spawner.spawn(spawn, fds))
        except TimeoutError:
            reply = wire.Refused(request.id, "timeout", "no answer in time")
        except (OSError, wire.WireError) as error:
            reply = wire.Refused(request.id, "host", str(error))
        if isinstance(reply, wire.Refused) and endpoint.output is not None:
            endpoint.output.finish()
        return reply

    def _end(self, endpoint: Endpoint, status: int | None) -> None:
        now = time.monotonic()
        ending, text = Ending(status, settled=True), ""  # an adopted one was there long before us
        if endpoint.output is not None:
            text = endpoint.output.finish()
            ending = Ending(status, settled(now, endpoint.started, endpoint.output.closed_at))
        awaited = endpoint.waiting and now - endpoint.arrived <= self._grace
        assert endpoint.state is not None, "an endpoint that ends has a state"
        event = judge(ending, endpoint.state, awaited, endpoint.crashes)
        endpoint.crashes = endpoint.crashes + 1 if event is Event.CRASHED else 0
        endpoint.restarted = event in (Event.AWAITED, Event.CRASHED)
        self._on(endpoint, event, last_words(ending, text))

    def _tell(self, endpoint: Endpoint, text: str, detail: str) -> None:
        if endpoint.request is None:
            log.warning("endpoint %s: started by an earlier broker, its user can't be told: %s", endpoint.id, text)
            return
        endpoint.notice = self._later(self._send(endpoint.request.credentials, text, detail))

    def _later(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a task failed unexpectedly", exc_info=task.exception())


def last_words(ending: Ending, text: str) -> str:
    """What a user is told of an endpoint that ended badly; `text` is what it printed before it opened its own log."""
    if ending.settled:
        return f"Your endpoint {ending}. Its own log, endpoint.log, may tell why; submit again to start another"
    printed = f"It printed:\n{text}" if text else "It printed nothing; tell the endpoint's administrator"
    return f"Your endpoint {ending}. {printed}"
