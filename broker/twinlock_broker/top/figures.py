"""The numbers about an endpoint, as columns need them, and the sums of those of several."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True)
class Figures:
    """Numbers about one endpoint, or about several together. What isn't known is None."""

    running: float | None = None
    """Tasks that a worker has."""
    queued: float | None = None
    """Tasks that wait for a worker."""
    done: float | None = None
    """Tasks that have ended since the endpoint's start."""
    workers: float | None = None
    """Workers, idle ones included."""
    idle_workers: float | None = None
    """Workers without a task."""
    blocks: float | None = None
    """Parsl's blocks."""
    jobs: float | None = None
    """Batch jobs."""
    memory: float | None = None
    """Bytes of memory of all its processes on the host."""
    cpu: float | None = None
    """Processor time of all its processes on the host, in percent of one core."""
    idle_left: float | None = None
    """Seconds until it ends for want of tasks. There is no sum of it."""


def of_row(row: Mapping[str, Any]) -> Figures:
    """Return the numbers in an endpoint's row of the broker's answer; an older endpoint doesn't have all."""
    found = row["figures"] or {}
    jobs = row.get("jobs")
    return Figures(
        running=found.get("running_tasks"),
        queued=_queued(found),
        done=found.get("done_tasks"),
        workers=found.get("total_workers"),
        idle_workers=found.get("idle_workers"),
        blocks=found.get("blocks"),
        jobs=None if jobs is None else len(jobs),
        memory=found.get("memory_bytes"),
        cpu=found.get("cpu_percent"),
        idle_left=found.get("idle_seconds_left"),
    )


def total(several: Iterable[Figures]) -> Figures:
    """Return the sums; what isn't known of any endpoint isn't known of them together."""
    each = list(several)
    names = (field.name for field in fields(Figures) if field.name != "idle_left")
    return Figures(**{name: _sum(getattr(one, name) for one in each) for name in names})


def _sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _queued(found: Mapping[str, float]) -> float | None:
    """Return the tasks that wait; of an endpoint that doesn't tell them from those that run, all."""
    if "queued_tasks" in found or "outstanding_tasks" not in found:
        return found.get("queued_tasks")
    return max(0, found["outstanding_tasks"] - found.get("running_tasks", 0))
