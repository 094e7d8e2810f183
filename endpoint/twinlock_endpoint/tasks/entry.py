"""A task between its delivery and the confirmation of its result."""

import asyncio
import time
from collections.abc import Set
from typing import Any, TypeVar

from twinlock_common.amqp.consumer import Message

from twinlock_endpoint.manager.audit import Audit, Trail
from twinlock_endpoint.tasks.intake import Admitted, Origin, Seal
from twinlock_endpoint.tasks.outcomes import Outcome

_T = TypeVar("_T")


class Interrupted(Exception):
    """The endpoint's decision about a task before the engine made one: the engine broke, or the endpoint ends."""

    def __init__(self, outcome: Outcome | None) -> None:
        super().__init__(outcome)
        self.outcome = outcome
        """The task's outcome; None where the task stays in the journal, for the next endpoint."""


class Entry:
    """A task that has no confirmed result yet."""

    __slots__ = (
        "_interruption",
        "_waits_for",
        "arrived",
        "attempts",
        "delivery",
        "function_id",
        "has_result",
        "id",
        "is_in_engine",
        "is_kept",
        "seal",
        "trail",
    )

    def __init__(self, id: str, delivery: Message | None, attempts: int = 0) -> None:
        self.id = id
        """The task's uuid."""
        self.function_id = Origin().function_id
        """Its function's uuid, once that is known."""
        self.arrived = time.monotonic()
        """When it came to this endpoint, or was found in the journal."""
        self.delivery = delivery
        """The delivery to acknowledge, while the queue holds the task; None when only the journal has it."""
        self.attempts = attempts
        """How often it was handed to an engine, of this endpoint or of one before it."""
        self.is_in_engine = False
        """The engine has the task."""
        self.is_kept = delivery is None
        """The journal has the task, or is about to."""
        self.has_result = False
        """Its result is made, and waits for its confirmation."""
        self.trail: Trail | None = None
        """Its records in the audit log, if there is one."""
        self.seal: Seal | None = None
        """Signs its result, if results are signed and the task is claimed."""
        self._waits_for: asyncio.Future[Any] | None = None
        self._interruption: Interrupted | None = None

    async def wait(self, future: asyncio.Future[_T]) -> _T:
        """Return the future's result. Raise its exception, or `Interrupted` if that comes first."""
        if self._interruption is None:
            self._waits_for = future
            value = await future
        if self._interruption is not None:
            raise self._interruption
        return value

    def interrupt(self, outcome: Outcome | None) -> None:
        """End what the task waits for, now or next, with `Interrupted` and this outcome."""
        self._interruption = Interrupted(outcome)
        if self._waits_for is not None and not self._waits_for.done():
            self._waits_for.set_exception(self._interruption)

    def know(self, origin: Origin, audit: Audit | None, *, is_received: bool = False) -> None:
        """Note where the task comes from, its `origin`, and leave a trail in the audit log, if there is one.

        With `is_received` an endpoint before this one has begun the trail.
        """
        self.function_id = origin.function_id
        if audit is not None:
            self.trail = Trail(audit, self.id, origin.function_id, origin.signed, is_received=is_received)

    async def claim(self, admitted: Admitted) -> Outcome | None:
        """Make sure that the task runs nowhere else; or return why it may not run.

        Only then is its result signed. A signed failure is the last word about a task: whoever delivers it must not be
        able to have the task run later, or to put the failure of a copy in place of the result of the first one.
        """
        refusal = await admitted.claim()
        if refusal is None:
            self.seal = admitted.seal
        return refusal

    async def sealed(self, result: bytes) -> bytes:
        """Return its packed result as it is published."""
        return result if self.seal is None else await self.seal(result)

    def waits_in_engine(self, dispatched: Set[str] | None) -> bool:
        """Return whether the engine has given the task to no worker yet.

        `dispatched` is what it gave to workers; None if it doesn't tell.
        """
        return dispatched is not None and self.is_in_engine and self.id not in dispatched
