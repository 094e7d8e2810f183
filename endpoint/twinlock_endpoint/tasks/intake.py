"""What decides whether a task may run: whatever the queue sends in plain mode, see `verified` for the other one."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from twinlock_common.amqp.consumer import Message

from twinlock_endpoint.queues import deliveries
from twinlock_endpoint.task import Task
from twinlock_endpoint.tasks import outcomes
from twinlock_endpoint.tasks.outcomes import Outcome

log = logging.getLogger(__name__)

Seal = Callable[[bytes], Awaitable[bytes]]
"""Returns a packed result as it is published."""


class CameBeforeError(Exception):
    """An endpoint before this one has answered the task; nothing is to be done but to acknowledge it."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a task comes from, as far as it is known."""

    function_id: str = "unknown"
    """For the audit."""
    signed: str = ""
    """Who has signed it, for the audit; empty where nobody has."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """A task that may run."""

    origin: Origin
    kept: Task
    """As the journal keeps it."""
    task: Task
    """As the engine gets it."""
    seal: Seal | None = field(repr=False)
    """Signs its result, from when the task is claimed; None where results aren't signed."""

    async def claim(self) -> Outcome | None:
        """Make sure that the task runs nowhere else, now that the journal has it; or return why it may not run."""
        return None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A task that may not run."""

    origin: Origin
    outcome: Outcome
    """What its user is told."""
    seal: Seal | None = field(default=None, repr=False)
    """Signs that; only the failure of a task that was claimed is signed, see `Entry.claim`."""


class Intake(ABC):
    """What decides about each task."""

    @abstractmethod
    async def admit(self, task_id: str, delivery: Message) -> Admitted | Refusal:
        """Decide about a task that was delivered. Raise `ValueError` if it isn't one, or `CameBeforeError`."""

    @abstractmethod
    async def readmit(self, task: Task) -> Admitted | Refusal:
        """Decide about a task that the journal has kept."""


class Plain(Intake):
    """Any task of the queue may run, if its function is allowed."""

    def __init__(self, endpoint_id: str, allowed: frozenset[str] | None) -> None:
        """Admit functions with these uuids; all with None. `endpoint_id` is for the text of a refusal."""
        self._endpoint_id = endpoint_id
        self._allowed = allowed

    async def admit(self, task_id: str, delivery: Message) -> Admitted | Refusal:
        """See `Intake`."""
        task = deliveries.task(task_id, delivery)
        origin = Origin(task.function_id)
        if self._allowed is not None and task.function_id not in self._allowed:
            log.warning("Task %s: function %s is not allowed here", task.id, task.function_id)
            return Refusal(origin, outcomes.not_allowed(task.id, task.function_id, self._endpoint_id))
        return Admitted(origin, task, task, seal=None)

    async def readmit(self, task: Task) -> Admitted | Refusal:
        """Admit it: it was admitted before."""
        return Admitted(Origin(task.function_id), task, task, seal=None)
