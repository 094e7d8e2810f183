"""Numbers of tasks on disk: who waits for it at the same time shares one wait, and one line of the log."""

import asyncio
import errno
import logging
from dataclasses import dataclass, field

from twinlock_common.offload import InOrder
from twinlock_signed.replay.claims import Claim

log = logging.getLogger(__name__)

_MOST = 500
"""Tasks in a line of the log, which may not be longer than `texts.LIMIT`."""


@dataclass(slots=True)
class _Batch:
    """Tasks of a delegation whose numbers go to the disk together."""

    signer: str
    on_disk: asyncio.Future[None]
    tasks: list[str] = field(default_factory=list)

    def log(self) -> None:
        for first in range(0, len(self.tasks), _MOST):
            log.info("Accepted, signed by %s: %s", self.signer, ", ".join(self.tasks[first : first + _MOST]))


class Syncs:
    """The waits for claims' records to be on disk."""

    def __init__(self) -> None:
        self._disk = InOrder("claims")
        self._waiting: dict[Claim, _Batch] = {}
        self._working: asyncio.Task[None] | None = None

    async def wait(self, claim: Claim, signer: str, task: str) -> None:
        """Return when all that was recorded before this call is on disk, and the log says who has signed the task.

        `signer` and `task` are as the log has them. Raise `OSError`.
        """
        loop = asyncio.get_running_loop()
        batch = self._waiting.get(claim)
        if batch is None:
            batch = self._waiting[claim] = _Batch(signer, loop.create_future())
        batch.tasks.append(task)
        if self._working is None or self._working.done():
            self._working = loop.create_task(self._work())
        await asyncio.shield(batch.on_disk)

    async def _work(self) -> None:
        while self._waiting:
            waiting, self._waiting = self._waiting, {}
            for claim, batch in waiting.items():
                try:
                    await self._disk.run(claim.sync)
                except OSError as error:
                    batch.on_disk.set_exception(error)
                except RuntimeError as error:  # there can't be a thread
                    batch.on_disk.set_exception(OSError(errno.EAGAIN, str(error)))
                else:
                    batch.log()
                    batch.on_disk.set_result(None)
