"""The administrator's socket, which `twinlock status`, `stop`, `block` and others ask. One request, one answer.

Requests are JSON lines: {"request": "status"}, {"request": "stop", "endpoint": UUID}, {"request": "canary"} with what
`CanaryReports` takes, and those of `Orders` and `Details`. The socket file's mode lets nobody in but root and the
broker's own account; what the kernel says about the caller is checked besides.
"""

import logging
import os
from collections.abc import Callable
from typing import Any

from twinlock_common.log_ration import LogRation

from twinlock_broker import metrics
from twinlock_broker.control.canary import CanaryReports
from twinlock_broker.control.details import Details
from twinlock_broker.control.listener import Caller
from twinlock_broker.control.orders import Orders
from twinlock_broker.control.rows import row
from twinlock_broker.control.sessions import Sessions
from twinlock_broker.endpoints.supervisor import Supervisor

SILENCE_LIMIT = 60.0
"""Seconds after which a client that asks nothing is disconnected."""

log = logging.getLogger(__name__)


class Admin:
    """The answers on the admin socket, about `supervisor`'s endpoints.

    `state` returns what is known of the manager endpoint itself.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        sessions: Sessions,
        state: Callable[[], dict[str, Any]],
        orders: Orders,
        details: Details,
        canary: CanaryReports,
    ) -> None:
        self._supervisor = supervisor
        self._orders = orders
        self._details = details
        self._canary = canary
        self._sessions = sessions
        self._state = state
        self._log = LogRation(log, metrics.DROPPED_LOG_LINES.inc)

    async def serve(self, caller: Caller) -> None:
        """Serve a client's connection from its start to its end."""
        if caller.uid not in (0, os.getuid()):
            text = "process %d of uid %d isn't an administrator's; it was disconnected"
            self._log.warning(caller.uid, text, caller.pid, caller.uid)
            return
        try:
            while (request := await caller.receive(SILENCE_LIMIT)) is not None:
                caller.send(await self._answer(request, caller))
        except TimeoutError:
            caller.send({"error": f"nothing was asked within {SILENCE_LIMIT:.0f} s"})
        except ValueError as error:
            caller.send({"error": f"not a request: {error}"})

    async def status(self) -> dict[str, Any]:
        """Return what is known of the manager endpoint and of all user endpoints, with figures as of now."""
        await self._sessions.refresh_figures(self._supervisor.endpoints)
        endpoints = sorted(self._supervisor.endpoints, key=lambda endpoint: (endpoint.user, endpoint.id))
        rows = [row(endpoint, self._sessions) for endpoint in endpoints]
        return self._state() | self._orders.in_force | {"endpoints": rows}

    async def _answer(self, request: dict[str, Any], caller: Caller) -> dict[str, Any]:
        name = str(request.get("request"))
        if name == "status":
            return await self.status()
        if name == "stop":
            return {"stopped": await self._stop(str(request.get("endpoint")), caller)}
        if name == "canary":
            self._canary.note(request)
            return {"noted": True}
        if name in self._orders.known:
            return await self._orders.carry_out(name, request, caller)
        if name in self._details.known:
            return self._details.known[name](request)
        known = ", ".join(("status", "stop", "canary", *self._orders.known, *self._details.known))
        return {"error": f"unknown request {name[:40]!r}; known are {known}"}

    async def _stop(self, endpoint_id: str, caller: Caller) -> bool:
        log.info("to be stopped, by %s", await self._orders.who(caller), extra={"endpoint": endpoint_id})
        return await self._supervisor.stop(endpoint_id)
