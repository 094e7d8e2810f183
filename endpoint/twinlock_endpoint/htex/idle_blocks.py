"""Which blocks can be given back to the scheduler."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from parsl.jobs.states import JobStatus


def idlest(
    statuses: Mapping[str, JobStatus], managers: Sequence[Mapping[str, Any]], longer_than: float | None
) -> list[str]:
    """Return the blocks without tasks, those first that were idle for longest.

    One whose workers haven't come yet was always idle.

    Args:
        statuses: of all blocks.
        managers: the connected worker pools, as the interchange describes them.
        longer_than: seconds for which a block must have been idle; None if that doesn't matter.
    """
    idle = {block: math.inf for block, status in statuses.items() if not status.terminal}
    for manager in managers:
        block = manager["block_id"]
        if manager["active"] and block in idle:
            seconds = -math.inf if manager["tasks"] else manager["idle_duration"]
            idle[block] = min(idle[block], seconds)
    least = -math.inf if longer_than is None else longer_than
    chosen = [block for block, seconds in idle.items() if seconds > least]
    return sorted(chosen, key=lambda block: idle[block], reverse=True)
