"""The programs that a fork of the zygote can become."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twinlock_endpoint.htex import interchange, pool
from twinlock_endpoint.zygote.program import Program


@dataclass(frozen=True)
class InterchangeProgram(Program):
    """Parsl's interchange, with its arguments.

    It notes in the file `dispatched`, if that is given, what it sends to pools. A pool sends a heartbeat each `beat_s`
    seconds.
    """

    title: str = "parsl: HTEX interchange"
    dispatched: Path | None = None
    beat_s: float = math.inf
    config: dict[str, Any] = field(default_factory=dict)

    def run(self) -> None:
        """Run the interchange until it is told to end."""
        interchange.main(self.dispatched, self.beat_s, self.config)


@dataclass(frozen=True)
class PoolProgram(Program):
    """A pool of Parsl's workers; `arguments` are those of its process_worker_pool.py.

    It notes in the file `dispatched` what it sends to workers, and takes up to `ahead` tasks more than it has workers.
    """

    dispatched: Path = Path()
    ahead: int = 0

    def run(self) -> None:
        """Run the pool until it is told to end."""
        pool.main(self.arguments, self.dispatched, self.ahead)
