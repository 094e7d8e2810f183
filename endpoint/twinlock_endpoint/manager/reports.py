"""Reports to a manager endpoint at which somebody looks: the endpoint's figures as of now, each second for a while."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from twinlock_common.log_ration import LogRation

from twinlock_endpoint.manager.usage import Usage

log = logging.getLogger(__name__)

_PERIOD_S = 1.0
_WATCHED_S = 10.0


class Reports:
    """The reports that go on for some seconds after each request; while nobody asks, nothing is measured.

    `look` brings the figures up to date, and `tell` tells them.
    """

    def __init__(self, usage: Usage, look: Callable[[], Awaitable[None]], tell: Callable[[], None]) -> None:
        self._usage = usage
        self._look = look
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._asked = asyncio.Event()
        self._until = 0.0
        self._log = LogRation(log)

    def ask(self) -> None:
        """Report soon, and go on for some seconds."""
        self._until = self._loop.time() + _WATCHED_S
        self._asked.set()

    async def run(self) -> None:
        """Report when somebody asks, without end."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            while self._loop.time() < self._until:
                await self._refresh()
                self._tell()
                await asyncio.sleep(_PERIOD_S)

    async def _refresh(self) -> None:
        """Bring the figures up to date, as far as that succeeds: under a limit of processes it may find no thread."""
        outcomes = await asyncio.gather(self._look(), self._usage.look(), return_exceptions=True)
        for error in outcomes:
            if isinstance(error, Exception):
                self._log.warning("refresh", "Figures for the manager endpoint can't be had: %r", error)
