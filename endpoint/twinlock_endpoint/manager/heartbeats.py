"""The endpoint's heartbeats."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from twinlock_common.document import Document
from twinlock_common.offload import in_thread

from twinlock_endpoint.manager import status
from twinlock_endpoint.manager.manager import Manager
from twinlock_endpoint.queues.connections import Connections

log = logging.getLogger(__name__)

_FIGURES_S = 2.0


class Heartbeats:
    """The engine's figures, published with the endpoint's identity."""

    def __init__(
        self,
        document: Document,
        config_raw: str,
        engine: Callable[[], dict[str, Any]],
        connections: Connections,
        manager: Manager,
        answers: Callable[[], dict[str, int]],
    ) -> None:
        """Prepare to send heartbeats.

        `engine` gives the engine's figures, and may block. `answers` gives figures about results, for the manager
        endpoint alone, since the service knows what it got.
        """
        self._endpoint_id = document.endpoint_id
        self._identity = status.identity(document.info, config_raw)
        self._engine = engine
        self._connections = connections
        self._manager = manager
        self._answers = answers
        self.figures: dict[str, Any] = {}
        """The engine's last known figures."""
        self._asking: asyncio.Future[dict[str, Any]] | None = None

    async def send(self, period_s: float) -> None:
        """Publish a heartbeat, and tell the manager endpoint; without a connection it isn't published."""
        await self._ask_engine()
        self._publish(period_s)
        self.tell_manager()

    def tell_manager(self) -> None:
        """Tell the manager endpoint what the engine said last, and what became of the results."""
        self._manager.tell({**self.figures, **self._answers()})

    async def send_last(self, limit_s: float) -> None:
        """Say that the endpoint shuts down, and wait at most `limit_s` seconds until that is confirmed."""
        sent = self._publish(0)
        if sent is not None:
            await asyncio.wait([sent], timeout=limit_s)

    def _publish(self, period_s: float) -> asyncio.Future[None] | None:
        body = status.report(self._endpoint_id, self._identity, self.figures, period_s)
        return self._connections.offer_heartbeat(body)

    async def _ask_engine(self) -> None:
        """Ask for the engine's figures.

        A busy or stuck engine delays no heartbeat, which then carries the last known figures.
        """
        self._asking = self._asking or in_thread(self._engine)
        done, _ = await asyncio.wait([self._asking], timeout=_FIGURES_S)
        if not done:
            log.warning("The engine did not give its figures within %.0f s", _FIGURES_S)
            return
        asked, self._asking = self._asking, None
        if asked.exception() is None:
            self.figures = asked.result()
        else:
            log.warning("The engine gave no figures: %r", asked.exception())
