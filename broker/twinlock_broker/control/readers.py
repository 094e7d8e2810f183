"""The readers' socket, which `twinlock-console` asks: named accounts read everything there, and order nothing.

Every account can connect; the kernel says which one it is (SO_PEERCRED, unix(7)). Requests are JSON lines:
{"request": "status"}, {"request": "failures"} and {"request": "starts"}. Whoever answers them has been given nothing
with which an endpoint could be stopped or anybody blocked.
"""

import asyncio
import logging
import pwd
from collections.abc import Awaitable, Callable, Collection
from typing import Any

from twinlock_common.log_ration import LogRation
from twinlock_common.offload import Offload

from twinlock_broker import metrics
from twinlock_broker.control.listener import Caller
from twinlock_broker.control.start_figures import start_figures
from twinlock_broker.endpoints.failures import Failures
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


class Readers:
    """The answers to the accounts `names`. `status` returns what administrators are told."""

    def __init__(
        self, names: Collection[str], status: Callable[[], Awaitable[dict[str, Any]]], failures: Failures
    ) -> None:
        self._names = names
        self.status = status
        """What they are answered to `status`."""
        self._failures = failures
        self._lookups = Offload("lookup", _LOOK_UPS)
        self._rations = Rations(REQUEST_RATE, REQUESTS_AT_ONCE)
        self._log = LogRation(log, metrics.DROPPED_LOG_LINES.inc)

    async def serve(self, caller: Caller) -> None:
        """Serve a client's connection from its start to its end."""
        if not await self._may_read(caller.uid):
            text = "process %d of uid %d isn't one of the readers; it was disconnected"
            self._log.warning(caller.uid, text, caller.pid, caller.uid)
            return
        try:
            while (request := await caller.receive(SILENCE_LIMIT)) is not None:
                ration = self._rations.of(caller.uid)
                await asyncio.sleep(ration.wait())
                ration.take()
                caller.send(await self._answer(request.get("request")))
        except TimeoutError:
            caller.send({"error": f"nothing was asked within {SILENCE_LIMIT:.0f} s"})
        except ValueError as error:
            caller.send({"error": f"not a request: {error}"})

    async def _may_read(self, uid: int) -> bool:
        try:
            return await self._lookups.run(_LOOK_UP_LIMIT, lambda: pwd.getpwuid(uid).pw_name) in self._names
        except (KeyError, TimeoutError):
            return False

    async def _answer(self, name: object) -> dict[str, Any]:
        match name:
            case "status":
                return await self.status()
            case "failures":
                return {"failures": self._failures.of(None)}
            case "starts":
                return start_figures()
        return {"error": f"unknown request {str(name)[:40]!r}; known are status, failures, starts"}
