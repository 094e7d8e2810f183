"""What the manager endpoint is told beside the engine's figures: tasks, blocks, processes, the time until the end."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from twinlock_endpoint.engines.base import Engine
from twinlock_endpoint.life.idle import IdleClock
from twinlock_endpoint.manager.usage import Usage
from twinlock_endpoint.tasks.ledger import Ledger


@dataclass(frozen=True, slots=True)
class OwnFigures:
    """The parts that know these figures."""

    engine: Engine
    ledger: Ledger
    idle: IdleClock
    usage: Usage

    def beside(self, of_engine: Mapping[str, Any]) -> dict[str, Any]:
        """Return the figures as of now, with `jobs`, the ids of batch jobs, and `histograms`, the times of tasks.

        `of_engine` is what the engine said last.
        """
        return {
            **self.ledger.figures(),
            **self._tasks(of_engine),
            "blocks": self.engine.blocks(),
            "jobs": self.engine.jobs(),
            "histograms": self.ledger.times.told(),
            **self.usage.figures,
            **self._idleness(),
        }

    def _tasks(self, of_engine: Mapping[str, Any]) -> dict[str, int]:
        """Return how many tasks run, wait for a worker, and are over."""
        unfinished = self.ledger.without_result
        busy = of_engine.get("total_workers", 0) - of_engine.get("idle_workers", 0)
        running = min(unfinished, busy)
        return {"running_tasks": running, "queued_tasks": unfinished - running, "done_tasks": self.ledger.settled}

    def _idleness(self) -> dict[str, float]:
        left = self.idle.seconds_left(self.ledger.received, self.ledger.settled)
        return {} if left is None else {"idle_seconds_left": left}
