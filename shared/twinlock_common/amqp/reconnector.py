"""A connection that is opened again whenever it has ended."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NoReturn

from twinlock_common.amqp.errors import LinkError
from twinlock_common.amqp.link import Link
from twinlock_common.backoff import delays

log = logging.getLogger(__name__)

_STABLE_S = 60.0
"""After a connection that has lasted for so long, delays begin anew."""


class Reconnector:
    """A connection that is kept, with growing, jittered delays between the attempts.

    Args:
        open: opens a connection
        use: works with a connection while it lasts; whatever it raises gives the connection up
        lost: is told why there is no connection (any more), and in how many seconds the next attempt is made
        longest_s: seconds between two attempts, at most
    """

    def __init__(
        self,
        open: Callable[[], Awaitable[Link]],
        use: Callable[[Link], Coroutine[Any, Any, None]],
        lost: Callable[[LinkError, float], Awaitable[None]],
        longest_s: float = 30.0,
    ) -> None:
        self._open = open
        self._use = use
        self._lost = lost
        self._longest_s = longest_s
        self._waits = delays(most=longest_s)
        self._hurried = asyncio.Event()
        self.link: Link | None = None
        """The connection, while there is one."""

    async def run(self) -> NoReturn:
        """Keep the connection until this is cancelled; then it stays open until `close`.

        Raise what `lost` raises.
        """
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            error = await self._connect_once()
            if loop.time() - began > _STABLE_S:
                self._waits = delays(most=self._longest_s)
            delay = next(self._waits)
            self._hurried.clear()
            await self._lost(error, delay)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._hurried.wait()

    def hurry(self) -> None:
        """Make the next attempt at once, if none is being made: the credentials have changed, for example."""
        self._waits = delays(most=self._longest_s)
        self._hurried.set()

    async def close(self) -> None:
        """Close the connection, if there is one."""
        link, self.link = self.link, None
        if link is not None:
            await link.close()

    async def _connect_once(self) -> LinkError:
        try:
            self.link = await self._open()
            await self.link.during(self._use(self.link))
        except LinkError as error:
            ended = error
        except Exception as error:  # what was delivered and not acknowledged comes again
            log.exception("A connection to RabbitMQ is given up")
            ended = LinkError(f"given up: {type(error).__name__}")
        await self.close()
        return ended
