"""A task, as queues, journal and engines hand it to each other."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Task:
    """A task as it came from the queue. The body is packed, and stays so until a worker has it."""

    id: str
    function_id: str
    body: bytes = field(repr=False)
    resources: dict[str, Any] = field(default_factory=dict)
    result_serializers: tuple[str, ...] = ()
