"""What an endpoint says of itself while it waits for signed work: that it is there, and what it waits for."""

import asyncio

from twinlock_common.document import Document

from twinlock_endpoint.config import configuration
from twinlock_endpoint.manager import status
from twinlock_endpoint.manager.manager import Manager
from twinlock_endpoint.manager.reports import Reports
from twinlock_endpoint.manager.usage import Usage
from twinlock_endpoint.queues.connections import Connections

_LAST_HEARTBEAT_S = 5.0
_CONDITION = "it waits for a task that its user has signed"


class Presence:
    """The heartbeats of an endpoint without an engine, and what it tells its manager endpoint."""

    def __init__(self, document: Document, connections: Connections, manager: Manager) -> None:
        self._endpoint_id = document.endpoint_id
        self._connections = connections
        self._manager = manager
        self._identity = status.identity(document.info, "")
        self._period_s = configuration.defaults().heartbeat_period
        self._usage = Usage(document.endpoint_id)
        self.reports = Reports(self._usage, _nothing_else, self.tell_manager)
        """What it tells while somebody looks."""

    async def beat(self) -> None:
        """Say again and again that it is there, without end."""
        while True:
            await asyncio.sleep(self._period_s)
            self.say()

    def say(self) -> None:
        """Say that it is there."""
        self._publish(self._period_s)
        self.tell_manager()

    def tell_manager(self) -> None:
        """Tell the manager endpoint what it waits for."""
        self._manager.tell({"condition": _CONDITION, **self._usage.figures})

    async def say_goodbye(self) -> None:
        """Say that it ends, and wait for a moment until that is confirmed."""
        sent = self._publish(0)
        if sent is not None:
            await asyncio.wait([sent], timeout=_LAST_HEARTBEAT_S)

    def _publish(self, period_s: float) -> asyncio.Future[None] | None:
        return self._connections.offer_heartbeat(status.report(self._endpoint_id, self._identity, {}, period_s))


async def _nothing_else() -> None:
    """Ask no engine: there is none yet."""
