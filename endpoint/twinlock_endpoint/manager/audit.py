"""The audit of task events, where the manager endpoint asks for one: no task runs before its record is written."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

log = logging.getLogger(__name__)

_RETRY_S = 2.0


@dataclass(slots=True)
class _Batch:
    records: list[str]
    written: Callable[[], None]


class Audit:
    """The records on their way to the audit log: each is kept until it is confirmed, and sent again if that fails.

    A new connection has them sent again as well. `send` is `Control.send`. A record may stand in the log twice, if its
    confirmation was lost; none is missing.
    """

    def __init__(self, send: Callable[[dict[str, Any]], bool]) -> None:
        self._send = send
        self._batches: dict[int, _Batch] = {}
        self._number = 0
        self._unsent: dict[int, None] = {}  # in their order
        self._retry: asyncio.TimerHandle | None = None
        self._empty = asyncio.Event()
        self._empty.set()

    def write(self, task_id: str, function_id: str, *states: str, written: Callable[[], None] = lambda: None) -> None:
        """Have the states of a task written in one go; `written` is called as soon as they are."""
        self._number += 1
        head = f"fid={function_id} tid={task_id} bid="
        self._batches[self._number] = _Batch([f"{head} {state}" for state in states], written)
        self._empty.clear()
        self._offer(self._number)

    def connected(self) -> None:
        """Send again what wasn't confirmed: there is a new connection."""
        self._unsent.clear()
        for number in list(self._batches):
            self._offer(number)

    def audited(self, message: dict[str, Any]) -> None:
        """Take the answer to a batch that is in the log."""
        batch = self._batches.pop(message.get("number", 0), None)
        if not self._batches:
            self._empty.set()
        if batch is not None:
            batch.written()

    def unaudited(self, message: dict[str, Any]) -> None:
        """Take the answer to a batch that the manager endpoint couldn't write, and send it again before long."""
        log.error("The manager endpoint can't write its audit log; tasks wait until it can")
        asyncio.get_running_loop().call_later(_RETRY_S, self._offer, message.get("number", 0))

    async def drain(self, limit_s: float) -> None:
        """Wait until everything is written, at most `limit_s` seconds."""
        try:
            async with asyncio.timeout(limit_s):
                await self._empty.wait()
        except TimeoutError:
            log.error("%d audit records were not confirmed", len(self._batches))

    def _offer(self, number: int) -> None:
        if number not in self._batches:
            return
        # what waits goes first: the manager endpoint takes an endpoint's records at a certain rate, and no faster
        batch = {"type": "audit", "number": number, "records": self._batches[number].records}
        if self._unsent or not self._send(batch):
            self._unsent[number] = None
            if self._retry is None:
                self._retry = asyncio.get_running_loop().call_later(_RETRY_S, self._offer_unsent)

    def _offer_unsent(self) -> None:
        self._retry = None
        unsent, self._unsent = self._unsent, {}
        for number in unsent:
            self._offer(number)


class Trail:
    """The records of one task: first that it was received, and in the end what became of it."""

    def __init__(
        self, audit: Audit, task_id: str, function_id: str, signed: str = "", *, is_received: bool = False
    ) -> None:
        """Begin a trail; with `is_received` an endpoint before this one did, and the log has what it wrote.

        `signed` says who has signed the task; empty if nobody has.
        """
        self._audit = audit
        self._task_id = task_id
        self._function_id = function_id
        self._received = f"RECEIVED - {signed}" if signed else "RECEIVED"
        self._is_received = is_received

    def start(self, written: Callable[[], None]) -> None:
        """Record that the task was received and is going to run; `written` is called as soon as that is in the log."""
        self._is_received = True
        self._audit.write(self._task_id, self._function_id, self._received, "EXEC_START", written=written)

    def end(self, event: str, written: Callable[[], None] = lambda: None) -> None:
        """Record the event that ended the task; `written` is called as soon as that is in the log."""
        events = (event,) if self._is_received else (self._received, event)
        self._audit.write(self._task_id, self._function_id, *events, written=written)
