"""A drain at work: endpoints that have no tasks any more are ended, so that the drain is over after the last task."""

import asyncio
import logging
import time
from collections.abc import Callable

from twinlock_broker.endpoints.admission import Admission
from twinlock_broker.endpoints.endpoint import Endpoint
from twinlock_broker.endpoints.registry import State
from twinlock_broker.endpoints.supervisor import Supervisor

PERIOD = 1.0
"""Seconds between two looks at the endpoints."""

QUIET = 5.0
"""Seconds that an endpoint has to be without tasks: those that came with its start may still be on their way."""

log = logging.getLogger(__name__)


class Drain:
    """The end of `supervisor`'s idle endpoints while `admission` has a drain.

    Only of endpoints that are `connected` it is known whether they have tasks; the others are waited for.
    """

    def __init__(self, supervisor: Supervisor, admission: Admission, connected: Callable[[Endpoint], bool]) -> None:
        self._supervisor = supervisor
        self._admission = admission
        self._connected = connected
        self._idle_since: dict[str, float] = {}

    async def run(self) -> None:
        """Look for idle endpoints again and again, without end."""
        while True:
            try:
                await self._look()
            except Exception:  # the next looks have to come: without them `twinlock drain` would wait for ever
                log.exception("the drain couldn't look for idle endpoints; it tries again")
            await asyncio.sleep(PERIOD)

    async def _look(self) -> None:
        now = time.monotonic()
        idle = [endpoint.id for endpoint in self._supervisor.endpoints if self._is_idle(endpoint)]
        self._idle_since = {each: self._idle_since.get(each, now) for each in idle}
        for each, since in self._idle_since.items():
            if now - since >= QUIET:
                log.info("has no tasks, and the manager endpoint is drained", extra={"endpoint": each})
                await self._supervisor.stop(each)

    def _is_idle(self, endpoint: Endpoint) -> bool:
        if self._admission.drain is None or endpoint.state is not State.RUNNING:
            return False
        return self._connected(endpoint) and not endpoint.has_unfinished_tasks
