"""The users' socket, which `twinlock my` asks: everybody sees and ends endpoints of their own account, and no others.

Every account can connect; the kernel says which one it is (SO_PEERCRED, unix(7)). Requests are JSON lines:
{"request": "mine"}, {"request": "options", "endpoint": UUID} and {"request": "stop", "endpoint": UUID}. An endpoint of
another account gets the answer of one that doesn't exist.
"""

import asyncio
import logging
import pwd
from collections.abc import Callable
from typing import Any

from twinlock_common.offload import Offload

from twinlock_broker.audit import AuditLog
from twinlock_broker.control.listener import Caller
from twinlock_broker.control.rows import row
from twinlock_broker.control.sessions import Sessions
from twinlock_broker.endpoints.endpoint import Endpoint, Stopper
from twinlock_broker.endpoints.registry import State
from twinlock_broker.endpoints.supervisor import Supervisor
from twinlock_broker.ration import Rations

SILENCE_LIMIT = 10.0
"""Seconds after which a client that asks nothing is disconnected."""

REQUEST_RATE = 4.0
"""Requests a second that an account may make on average; who makes more of them waits."""

REQUESTS_AT_ONCE = 40.0
"""Requests that it may make at once."""

_LOOK_UP_LIMIT = 10.0
_LOOK_UPS = 8

log = logging.getLogger(__name__)


class Users:
    """The answers on the users' socket, about `supervisor`'s endpoints.

    `state` returns what is known of the manager endpoint itself.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        sessions: Sessions,
        state: Callable[[], dict[str, Any]],
        audit: AuditLog | None,
    ) -> None:
        self._supervisor = supervisor
        self._sessions = sessions
        self._state = state
        self._audit = audit
        self._lookups = Offload("lookup", _LOOK_UPS)
        self._rations = Rations(REQUEST_RATE, REQUESTS_AT_ONCE)

    async def serve(self, caller: Caller) -> None:
        """Serve a client's connection from its start to its end."""
        try:
            while (request := await caller.receive(SILENCE_LIMIT)) is not None:
                ration = self._rations.of(caller.uid)
                await asyncio.sleep(ration.wait())
                ration.take()
                caller.send(await self._answer(request, caller))
        except TimeoutError:
            caller.send({"error": f"nothing was asked within {SILENCE_LIMIT:.0f} s"})
        except ValueError as error:
            caller.send({"error": f"not a request: {error}"})

    async def _answer(self, request: dict[str, Any], caller: Caller) -> dict[str, Any]:
        try:
            user = await self._lookups.run(_LOOK_UP_LIMIT, lambda: pwd.getpwuid(caller.uid).pw_name)
        except (KeyError, TimeoutError):
            return {"error": f"the account of uid {caller.uid} can't be looked up on this host"}
        name, endpoint = request.get("request"), self._own(user, request.get("endpoint"))
        match name:
            case "mine":
                await self._sessions.refresh_figures(self._of(user))
                return self._state() | {"endpoints": [row(one, self._sessions) for one in self._of(user)]}
            case "options":
                asked_for = endpoint.request.options if endpoint and endpoint.request else None
                return {"options": asked_for if asked_for is None else dict(asked_for)}
            case "stop":
                return {"stopped": endpoint is not None and await self._stop(endpoint)}
        return {"error": f"unknown request {str(name)[:40]!r}; known are mine, options, stop"}

    def _own(self, user: str, endpoint_id: object) -> Endpoint | None:
        return next((one for one in self._supervisor.endpoints if one.id == endpoint_id and one.user == user), None)

    def _of(self, user: str) -> list[Endpoint]:
        return sorted((one for one in self._supervisor.endpoints if one.user == user), key=lambda one: one.id)

    async def _stop(self, endpoint: Endpoint) -> bool:
        if endpoint.state is State.STOPPING:
            return True  # or else whoever asks again and again would fill the log
        log.info("to be stopped, by its user", extra={"endpoint": endpoint.id, "user": endpoint.user})
        stopped = await self._supervisor.stop(endpoint.id, Stopper.USER)
        if stopped and self._audit is not None:
            await self._audit.note(f"the user's order: stop {endpoint.id}, given by {endpoint.user}")
        return stopped
