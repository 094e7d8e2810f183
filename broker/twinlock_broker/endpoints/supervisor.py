"""All user endpoints: which one a command, the spawner's table or an end is about, and that each is kept."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any

from twinlock_wire import wire

from twinlock_broker import processes
from twinlock_broker.config.policies import Mode
from twinlock_broker.endpoints import registry
from twinlock_broker.endpoints.endpoint import Endpoint, Signed, Stopper
from twinlock_broker.endpoints.failures import Failures
from twinlock_broker.endpoints.launcher import Launcher
from twinlock_broker.endpoints.lifecycle import Lifecycle, Listeners, Tell
from twinlock_broker.endpoints.pipeline import StartRequest
from twinlock_broker.endpoints.registry import Action, Event, State
from twinlock_broker.endpoints.store import Store

SETTLE_LIMIT = 5.0
"""Seconds that notices on their way get when the broker stops."""

log = logging.getLogger(__name__)


class Supervisor:
    """All user endpoints of the manager `manager_id`. `grace` in seconds is mu_child_ep_grace_period_s."""

    def __init__(self, manager_id: str, grace: float, launcher: Launcher, store: Store, tell: Tell) -> None:
        self._prefix = f"uep.{manager_id}."
        self._store = store
        self._lifecycle = Lifecycle(launcher, grace, self._keep, tell)
        self._endpoints = {endpoint.id: endpoint for endpoint in store.load()}
        self.failures = Failures()
        """What failed last."""
        self.listeners.failed = self.failures.failed
        launcher.resume(self._endpoints.values())

    @property
    def listeners(self) -> Listeners:
        """Who else has to know what happens to a running endpoint."""
        return self._lifecycle.listeners

    @property
    def endpoints(self) -> Iterable[Endpoint]:
        """All endpoints that there are."""
        return self._endpoints.values()

    def of_process(self, pid: int) -> Endpoint | None:
        """Return the running endpoint whose process id by the spawner's word is `pid`; None if there is none."""
        return next((endpoint for endpoint in self._endpoints.values() if pid and endpoint.pid == pid), None)

    async def command(self, request: StartRequest) -> None:
        """Carry out a start command, until its outcome is decided."""
        endpoint = self._endpoints.setdefault(request.id, Endpoint(request.id, request.user))
        event = Event.COMMAND if endpoint.user == request.user else Event.ACCOUNT_CHANGED
        endpoint.request, endpoint.requested_at = request, time.monotonic()
        if self._lifecycle.on(endpoint, event) is Action.START and endpoint.launch is not None:
            await endpoint.launch

    async def stop(self, endpoint_id: str, by: Stopper = Stopper.ADMINISTRATOR) -> bool:
        """Stop an endpoint. Return False if there is none. Its user is told when it has ended.

        A start under way can't be taken back, but what it started can be stopped. One that an earlier broker made is
        known when the spawner is there.
        """
        endpoint = self._endpoints.get(endpoint_id)
        if endpoint is None:
            return False
        while endpoint.launch is not None and not endpoint.launch.done():  # another start may follow from its end
            await asyncio.wait((endpoint.launch,))
        if endpoint.state is None:
            return False
        endpoint.stopped_by = by
        self._lifecycle.on(endpoint, Event.STOP, self._lifecycle.stop_text(endpoint))
        return True

    def note_unfinished(self, endpoint: Endpoint, tasks: int) -> None:
        """Note how many unfinished tasks a running endpoint has in its journal.

        Without any, its earlier bad ends no longer count.
        """
        if not tasks:
            endpoint.crashes = 0
        if endpoint.has_unfinished_tasks != (tasks > 0) and endpoint.state is not None:
            endpoint.has_unfinished_tasks = tasks > 0
            self._keep(endpoint)

    def note_signed(self, endpoint: Endpoint, signed: Signed) -> bool:
        """Note who has signed for a running endpoint. Return whether that is new.

        Only the first word of a process counts, so that it can't fill the log; and none of one in plain mode.
        """
        if endpoint.signed is not None or endpoint.mode is Mode.PLAIN or endpoint.state is None:
            return False
        endpoint.signed = signed
        self._keep(endpoint)
        return True

    def listed(self, children: Sequence[wire.Child]) -> None:
        """Adopt unknown children in the spawner's table; known endpoints that are not in it have ended unseen."""
        table = {child.id: child for child in children if child.name.startswith(self._prefix)}
        for child in table.values():
            if child.ended is None and child.id not in self._endpoints:
                endpoint = self._endpoints[child.id] = Endpoint(child.id, child.user)
                endpoint.started = endpoint.requested_at = time.monotonic()
                self._lifecycle.on(endpoint, Event.ADOPTED)
        for endpoint in list(self._endpoints.values()):
            self._compare(endpoint, table.get(endpoint.id))

    def exited(self, child: str, status: int) -> Coroutine[Any, Any, None] | None:
        """Handle the end of a child with the wait status `status`.

        Return what has to be waited for until that is done, or None.
        """
        endpoint = self._endpoints.get(child)
        if endpoint is not None and endpoint.state is State.STARTING:
            endpoint.wait_status = status  # it ended before the answer "spawned" was handled
        elif endpoint is not None and endpoint.state in (State.RUNNING, State.STOPPING):
            return self._lifecycle.end(endpoint, status)
        else:
            log.info("ended with wait status %d; nobody here waits for it", status, extra={"endpoint": child})
        return None

    def summary(self) -> str:
        """Return how many endpoints there are in which state, for people."""
        states = Counter(endpoint.state.value for endpoint in self._endpoints.values() if endpoint.state)
        return "user endpoints: " + (", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "none")

    async def settle(self) -> None:
        """Give notices that are on their way `SETTLE_LIMIT` seconds."""
        await self._lifecycle.settle(SETTLE_LIMIT)

    def _compare(self, endpoint: Endpoint, child: wire.Child | None) -> None:
        """Do what the spawner's table says about `endpoint`, whose state may be of an earlier broker's time.

        A start whose end no broker saw is made again: the broker that made it may be why it failed, and the command of
        one that was killed is delivered again in any case.
        """
        running = child is not None and child.ended is None
        endpoint.pid = child.pid if child and running else 0
        if endpoint.pid and endpoint.launch is None:  # an earlier broker started it
            endpoint.started = processes.started(endpoint.pid) or endpoint.started
        if endpoint.state in (State.RUNNING, State.STOPPING) and not running:
            rest = self._lifecycle.end(endpoint, child.ended if child else None)
            if rest is not None:
                self._lifecycle.later(rest)
        elif endpoint.state is State.STOPPING:
            self._lifecycle.on(endpoint, Event.STILL_RUNNING)
        elif endpoint.state is State.STARTING and endpoint.launch is None:
            self._lifecycle.on(endpoint, Event.SPAWNED if running else Event.RESUMED)
        elif endpoint.state is State.RESTART_PENDING and endpoint.timer is None:
            self._lifecycle.wait(endpoint, max(0.0, endpoint.restart_at - time.monotonic()))
        elif endpoint.state is State.BACKING_OFF and endpoint.timer is None:
            self._lifecycle.wait(endpoint, registry.BACK_OFF)

    def _keep(self, endpoint: Endpoint) -> None:
        if endpoint.state is not None:
            self._store.save(endpoint)
        elif self._endpoints.pop(endpoint.id, None) is not None:
            self._store.remove(endpoint)
