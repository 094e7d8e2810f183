"""What became of the batch job whose workers were lost, added to the error of their tasks."""

import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from parsl.executors.high_throughput.errors import ManagerLost
from parsl.executors.high_throughput.executor import HighThroughputExecutor
from parsl.jobs.states import JobStatus

from twinlock_endpoint.htex.jobs import describe, describe_ended

log = logging.getLogger(__name__)

_FRESH_S = 5.0
_MOST_REMEMBERED = 10_000


class LostWorkers:
    """A thread that asks the scheduler, once for all tasks of a node. Nothing else waits for the answer."""

    def __init__(self, parsl: HighThroughputExecutor) -> None:
        self._parsl = parsl
        self._blocks: dict[str, str] = {}  # by worker pool
        self._asked = float("-inf")
        self._statuses: dict[str, JobStatus] = {}
        self._thread = ThreadPoolExecutor(1, "lost-workers")

    def remember(self, managers: list[dict[str, Any]]) -> None:
        """Note that these worker pools are connected."""
        self._blocks |= {manager["manager"]: manager["block_id"] for manager in managers}
        for oldest in list(self._blocks)[:-_MOST_REMEMBERED]:
            del self._blocks[oldest]

    def explain(self, error: ManagerLost, then: Callable[[ManagerLost], object]) -> None:
        """Add what has become of the job to this error, and call `then` with it before long, from another thread."""
        self._thread.submit(self._explain, error, then)

    def close(self) -> None:
        """Explain no more."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _explain(self, error: ManagerLost, then: Callable[[ManagerLost], object]) -> None:
        try:
            words = self._words(error)
            if words:
                error.add_note(words)
        except Exception:  # a scheduler that doesn't answer; the error stands without its words
            log.exception("What became of lost workers' job can't be found out")
        then(error)

    def _words(self, error: ManagerLost) -> str:
        if time.monotonic() - self._asked > _FRESH_S:  # one node may have had many tasks
            self._statuses = self._parsl.status()
            self._asked = time.monotonic()
            # New workers needn't wait until the poller asks by itself. Parsl has no method for it.
            self._parsl._last_poll_time = 0.0  # noqa: SLF001
        block = self._blocks.get(error.manager_id.decode(errors="replace"))
        if block in self._statuses:
            return describe(self._parsl, block, self._statuses[block])
        return describe_ended(self._parsl, self._statuses)
