"""The endpoint's heartbeats."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from twinlock_common.document import Document
from twinlock_common.log_ration import LogRation
from twinlock_common.offload import in_thread

from twinlock_endpoint.manager import status
from twinlock_endpoint.manager.manager import Manager
from twinlock_endpoint.queues.connections import Connections

log = logging.getLogger(__name__)

_FIGURES_S = 2.0
_GLANCE_S = 0.4


class Heartbeats:
    """The engine's figures, published with the endpoint's identity."""

    def __init__(
        self,
        document: Document,
        config_raw: str,
        engine: Callable[[], dict[str, Any]],
        connections: Connections,
        manager: Manager,
        beside: Callable[[dict[str, Any]], dict[str, Any]],
    ) -> None:
        """Prepare to send heartbeats.

        `engine` gives the engine's figures, and may block. `beside` gives, with these, what the manager endpoint alone
        is told.
        """
        self._endpoint_id = document.endpoint_id
        self._identity = status.identity(document.info, config_raw)
        self._engine = engine
        self._connections = connections
        self._manager = manager
        self._beside = beside
        self.figures: dict[str, Any] = {}
        """The engine's last known figures."""
        self._log = LogRation(log)
        self._asking: asyncio.Future[dict[str, Any]] | None = None

    async def send(self, period_s: float) -> None:
        """Publish a heartbeat, and tell the manager endpoint; without a connection it isn't published."""
        if not await self._ask_engine(_FIGURES_S):
            log.warning("The engine did not give its figures within %.0f s", _FIGURES_S)
        self._publish(period_s)
        self.tell_manager()

    async def look(self) -> None:
        """Ask for the engine's figures without a heartbeat; wait for a moment only."""
        await self._ask_engine(_GLANCE_S)

    def tell_manager(self) -> None:
        """Tell the manager endpoint what the engine said last, and what else it is told."""
        self._manager.tell({**self.figures, **self._beside(self.figures)})

    async def send_last(self, limit_s: float) -> None:
        """Say that the endpoint shuts down, and wait at most `limit_s` seconds until that is confirmed."""
        sent = self._publish(0)
        if sent is not None:
            await asyncio.wait([sent], timeout=limit_s)

    def _publish(self, period_s: float) -> asyncio.Future[None] | None:
        body = status.report(self._endpoint_id, self._identity, self.figures, period_s)
        return self._connections.offer_heartbeat(body)

    async def _ask_engine(self, limit_s: float) -> bool:
        """Ask for the engine's figures, and return whether it has answered within `limit_s` seconds.

        A busy or stuck engine delays nothing for longer: the last known figures are used then.
        """
        asking = self._asking = self._asking or in_thread(self._engine)
        done, _ = await asyncio.wait([asking], timeout=limit_s)
        if not done:
            return False
        if self._asking is not asking:  # a heartbeat and a report have waited for the same answer
            return True
        self._asking = None
        if asking.exception() is None:
            self.figures = asking.result()
        else:
            self._log.warning("engine", "The engine gave no figures: %r", asking.exception())
        return True
