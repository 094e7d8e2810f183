"""What `top` knows at a moment."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Picture:
    """What the broker answered last."""

    answer: dict[str, Any]
    """To `status`."""
    taken: float
    """When it came, by time.monotonic()."""
    trouble: str = ""
    """Why there is no newer one; empty if it is up to date."""
