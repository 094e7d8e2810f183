"""The metrics of the user endpoints that there are, counted when they are fetched."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from twinlock_broker.control.told import Told
from twinlock_broker.endpoints.endpoint import Endpoint
from twinlock_broker.endpoints.supervisor import Supervisor

_TASKS = {"running": "running_tasks", "queued": "queued_tasks"}
"""The figures of tasks by state."""


class UserEndpoints(Collector):
    """Endpoints by state and user; tasks and workers by user and state, as the connected endpoints told them last.

    `told` returns what an endpoint has told.
    """

    def __init__(self, supervisor: Supervisor, told: Callable[[Endpoint], Told]) -> None:
        self._supervisor = supervisor
        self._told = told

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Yield each family with a sample for each user and state that there is."""
        counted = Counter((one.state.value, one.user) for one in self._supervisor.endpoints if one.state is not None)
        tasks: Counter[tuple[str, str]] = Counter()
        workers: Counter[tuple[str, str]] = Counter()
        for endpoint in self._supervisor.endpoints:
            figures = self._told(endpoint).figures
            tasks.update({(endpoint.user, state): number for state, number in _tasks(figures)})
            workers.update({(endpoint.user, state): number for state, number in _workers(figures)})
        for family, values in zip(families(), (counted, tasks, workers), strict=True):
            for labels, number in values.items():
                family.add_metric(labels, number)
            yield family

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Return the families without samples."""
        return families()


def families() -> list[GaugeMetricFamily]:
    """Return the families without samples."""
    return [
        GaugeMetricFamily("twinlock_endpoints", "User endpoints", labels=["state", "user"]),
        GaugeMetricFamily(
            "twinlock_tasks",
            "Tasks of a user's connected endpoints, as these told last: running, queued (they wait for a worker)",
            labels=["user", "state"],
        ),
        GaugeMetricFamily(
            "twinlock_workers",
            "Workers of a user's connected endpoints, as these told last: busy (with a task), idle",
            labels=["user", "state"],
        ),
    ]


def _tasks(figures: dict[str, float]) -> Iterator[tuple[str, float]]:
    """Yield how many tasks an endpoint has in which state. One of an earlier version doesn't tell."""
    for state, name in _TASKS.items():
        if name in figures:
            yield state, max(0.0, figures[name])


def _workers(figures: dict[str, float]) -> Iterator[tuple[str, float]]:
    """Yield how many workers are in which state; nothing while the endpoint knows none."""
    if "total_workers" in figures:
        total = max(0.0, figures["total_workers"])
        idle = min(total, max(0.0, figures.get("idle_workers", 0)))
        yield "busy", total - idle
        yield "idle", idle
