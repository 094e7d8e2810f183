"""A task, as queues, journal and engines hand it to each other."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Task:
    """A task as it came from the queue."""

    id: str
    """A uuid."""
    function_id: str
    """A uuid."""
    body: bytes = field(repr=False)
    """Function and arguments, packed; they stay so until a worker has them."""
    resources: dict[str, Any] = field(default_factory=dict)
    """The resource specification, such as `num_nodes`; empty if there is none."""
    result_serializers: tuple[str, ...] = ()
    """Import paths of the serializers that the result may use; empty if the SDK left the choice."""
