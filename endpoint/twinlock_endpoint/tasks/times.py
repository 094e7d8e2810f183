"""How long tasks wait and run, in histograms, which the manager endpoint adds up for all endpoints."""

import time
from bisect import bisect_left
from typing import Any

from twinlock_common.task_times import BOUNDS, RUN, WAIT

from twinlock_endpoint.worker import messages


class Histogram:
    """Times by buckets, and their sum."""

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS) + 1)
        self._sum = 0.0

    def add(self, seconds: float) -> None:
        """Count a time."""
        self._counts[bisect_left(BOUNDS, seconds)] += 1
        self._sum += seconds

    def told(self) -> dict[str, Any]:
        """Return the number of times in each bucket, and the sum of all times in seconds."""
        return {"counts": list(self._counts), "sum": self._sum}


class TaskTimes:
    """The times of the tasks that workers have answered, since the endpoint's start.

    Only the worker knows when it has begun a task: Parsl tells nobody, and a pool may have tasks in advance. So a task
    counts when its result is there, which says how long the worker had it. The rest of the time since the task's
    arrival is its wait, whatever it waited for: an attempt that was lost, or the way to the worker and back.
    """

    def __init__(self) -> None:
        self._waits = Histogram()
        self._runs = Histogram()

    def note(self, arrived: float, result: bytes) -> None:
        """Count a task that has a result now, unless it is the endpoint's own; `arrived` is by time.monotonic()."""
        run = messages.seconds_in_worker(result)
        if run is None:
            return
        passed = time.monotonic() - arrived
        run = min(run, passed)  # the clock of the worker's node may have been set
        self._runs.add(run)
        self._waits.add(passed - run)

    def told(self) -> dict[str, Any]:
        """Return the histograms by name, as the manager endpoint is told them."""
        return {WAIT: self._waits.told(), RUN: self._runs.told()}
