"""Numbers of tasks on disk: who waits for it at the same time shares one wait."""

import asyncio

from twinlock_common.offload import in_thread
from twinlock_signed.replay.claims import Claim


class Syncs:
    """The waits for claims' records to be on disk."""

    def __init__(self) -> None:
        self._waiting: dict[Claim, asyncio.Future[None]] = {}
        self._working: asyncio.Task[None] | None = None

    async def wait(self, claim: Claim) -> None:
        """Return when all that was recorded before this call is on disk. Raise `OSError`."""
        waited = self._waiting.get(claim)
        if waited is None:
            waited = self._waiting[claim] = asyncio.get_running_loop().create_future()
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work())
        await asyncio.shield(waited)

    async def _work(self) -> None:
        while self._waiting:
            waiting, self._waiting = self._waiting, {}
            for claim, waited in waiting.items():
                try:
                    await in_thread(claim.sync)
                except OSError as error:
                    waited.set_exception(error)
                else:
                    waited.set_result(None)
