"""What `twinlock canary` told of its last tasks, as metrics. While it has told nothing, there are none."""

import logging
import time
from collections.abc import Iterable, Mapping
from typing import Any

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from twinlock_broker.printable import printable

_LONGEST = 500
_MOST_SECONDS = 1e6

log = logging.getLogger(__name__)


class CanaryReports(Collector):
    """The last report of the canary, and the last that was good. Times are in seconds since 1970."""

    def __init__(self) -> None:
        self._last_run = 0.0
        self._last_success = 0.0
        self._succeeded = False
        self._seconds: float | None = None

    def note(self, request: Mapping[str, Any]) -> None:
        """Take a report: {"success": whether the right result came, "seconds": after how long, "text": what it found}.

        Without a time the task was never submitted. Raise `ValueError` if it isn't one.
        """
        success, seconds, text = request.get("success"), request.get("seconds"), request.get("text")
        if not isinstance(success, bool) or not isinstance(text, str):
            raise ValueError("a canary's report without success and text")
        if seconds is not None and (type(seconds) not in (int, float) or not 0 <= seconds < _MOST_SECONDS):
            raise ValueError("a canary's report with a time that is none")
        self._last_run, self._succeeded, self._seconds = time.time(), success, seconds
        if success:
            self._last_success = self._last_run
        else:
            log.warning("the canary failed: %s", printable(text, _LONGEST))

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Yield each family that has a value."""
        if not self._last_run:
            return
        run, last_success, success, seconds = families()
        run.add_metric([], self._last_run)
        last_success.add_metric([], self._last_success)
        success.add_metric([], self._succeeded)
        yield from (run, last_success, success)
        if self._seconds is not None:
            seconds.add_metric([], self._seconds)
            yield seconds

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Return the families without samples."""
        return families()


def families() -> list[GaugeMetricFamily]:
    """Return the families without samples."""
    return [
        GaugeMetricFamily(
            "twinlock_canary_last_run_timestamp_seconds", "When `twinlock canary` last reported, in seconds since 1970"
        ),
        GaugeMetricFamily(
            "twinlock_canary_last_success_timestamp_seconds",
            "When it last reported the right result; 0 if it didn't since the broker was started",
        ),
        GaugeMetricFamily("twinlock_canary_success", "Whether its last task had the right result in time"),
        GaugeMetricFamily("twinlock_canary_seconds", "From its last login to the result, or to the failure"),
    ]
