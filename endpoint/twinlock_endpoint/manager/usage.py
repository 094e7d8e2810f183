"""What the endpoint's processes use of memory and processor, measured while somebody looks."""

import asyncio
import logging
import os
import time
from dataclasses import dataclass

from twinlock_common.offload import in_thread

from twinlock_endpoint.manager import processes
from twinlock_endpoint.manager.processes import Process

log = logging.getLogger(__name__)

_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
_FIRST_PERIOD_S = 0.2
_SHARE = 0.01  # of one core's time
_KEPT_S = 10.0
_GLANCE_S = 1.0  # what a process maps may lie on a server that doesn't answer, and then the kernel doesn't either


@dataclass(frozen=True, slots=True)
class _Sample:
    time: float
    """By the monotonic clock, in seconds."""
    processes: list[Process]

    @property
    def ticks(self) -> int:
        return sum(process.ticks for process in self.processes)


class Usage:
    """The use of all processes of the endpoint on this host.

    Measuring takes at most a hundredth of one core's time: the longer it takes, the less often it is done.
    """

    def __init__(self, endpoint_id: str) -> None:
        self._endpoint_id = endpoint_id
        self._measuring: asyncio.Future[dict[str, float]] | None = None
        self._figures: dict[str, float] = {}
        self._before: _Sample | None = None
        self._due = 0.0
        self._stale_at = 0.0

    @property
    def figures(self) -> dict[str, float]:
        """`memory_bytes`, `cpu_percent` of one core since the measurement before, `processes`; none if they are old."""
        return self._figures if time.monotonic() < self._stale_at else {}

    async def look(self) -> None:
        """Measure, unless that would be too soon; wait for it for a moment only."""
        if self._measuring is None and time.monotonic() >= self._due:
            self._measuring = in_thread(self._measure)
        if self._measuring is None:
            return
        done, _ = await asyncio.wait([self._measuring], timeout=_GLANCE_S)
        if done:
            measured, self._measuring = self._measuring, None
            self._figures = measured.result()
            self._stale_at = max(self._due, time.monotonic() + _KEPT_S)

    def _measure(self) -> dict[str, float]:
        began = time.thread_time()
        before = self._before
        if before is None or time.monotonic() > self._stale_at:
            before = self._first()
        now = self._before = self._sample()
        alive = [process for process in now.processes if not process.has_ended]
        figures = {
            "memory_bytes": sum(process.pss() for process in alive),
            "cpu_percent": _percent(before, now),
            "processes": len(alive),
        }
        self._due = time.monotonic() + (time.thread_time() - began) / _SHARE
        return figures

    def _first(self) -> _Sample:
        """Return a sample to compare with, and let some time go by."""
        sample = self._sample()
        time.sleep(_FIRST_PERIOD_S)
        return sample

    def _sample(self) -> _Sample:
        return _Sample(time.monotonic(), processes.of_endpoint(self._endpoint_id))


def _percent(before: _Sample, now: _Sample) -> float:
    """Return the processor time between two samples.

    That of a process which has ended is its parent's by then. An orphan's is lost, so the sum may have become less.
    """
    used = max(0, now.ticks - before.ticks) / _TICKS_A_SECOND
    return round(100 * used / (now.time - before.time), 1)
