"""The time limit of a function, as Parsl's own workers keep it.

The file runs on nodes, with any Python that has Parsl.
"""

from collections.abc import Callable
from typing import Any

from parsl.app.python import timeout


def limited(function: Callable[..., Any], seconds: float) -> Callable[..., Any]:
    """Return the function, in which Parsl's AppTimeout is raised when it has run for `seconds` seconds."""
    made: Callable[..., Any] = timeout(function, seconds)
    return made
