"""The programs that a fork of the zygote can become."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twinlock_endpoint.htex import interchange, pool
from twinlock_endpoint.zygote.program import Program


@dataclass(frozen=True)
class InterchangeProgram(Program):
    """Parsl's interchange."""

    title: str = "parsl: HTEX interchange"
    dispatched: Path | None = None
    """The file in which it notes what it sends to pools; None if it notes nothing."""
    beat_s: float = math.inf
    """Seconds between two heartbeats of a pool."""
    config: dict[str, Any] = field(default_factory=dict)
    """The arguments of Parsl's `Interchange`."""

    def run(self) -> None:
        """Run the interchange until it is told to end."""
        interchange.main(self.dispatched, self.beat_s, self.config)


@dataclass(frozen=True)
class PoolProgram(Program):
    """A pool of Parsl's workers; `arguments` are those of its process_worker_pool.py."""

    dispatched: Path = Path()
    """The file in which it notes what it sends to workers."""
    ahead: int = 0
    """The number of tasks that it takes beyond one for each worker."""

    def run(self) -> None:
        """Run the pool until it is told to end."""
        pool.main(self.arguments, self.dispatched, self.ahead)
