"""The user endpoints' connections: fresh credentials go down, figures and audit records come up.

Who an endpoint is stands in no message: the kernel says which process connected, the spawner which endpoint that is.
Lines are JSON objects with a `type`. Down: ``credentials`` {amqp_creds}, ``audited`` {number}, ``unaudited`` {number},
``end`` {reason}: that no other endpoint goes on with its tasks.
Up: ``figures`` {figures: name to number, condition: what is in the way of its tasks},
``audit`` {number, records: a list of texts}, ``journal`` {tasks: the number of unfinished ones}.
"""

import logging
import re
from pathlib import Path
from typing import Any

from twinlock_broker import metrics
from twinlock_broker.audit import AuditLog
from twinlock_broker.control.listener import Caller
from twinlock_broker.endpoints.endpoint import Endpoint
from twinlock_broker.endpoints.supervisor import Supervisor
from twinlock_broker.errors import CommandError
from twinlock_broker.identity import account
from twinlock_broker.offload import Offload

_LEVELS = 3
"""The process that the spawner knows, and below it the inner guard and the endpoint itself where there are guards."""

_LOOK_UP_LIMIT = 10.0
_MOST_FIGURES = 32
_NAME = re.compile(r"[a-z_]{1,40}")
_MOST = 1 << 53
_LONGEST_CONDITION = 500

log = logging.getLogger(__name__)


class Sessions:
    """The connections of `supervisor`'s endpoints, one each. Without an `audit` no record is ever safe."""

    def __init__(self, supervisor: Supervisor, audit: AuditLog | None) -> None:
        self._supervisor = supervisor
        supervisor.refreshed = self.refresh
        supervisor.ended = self.end
        self._audit = audit
        self._lookups = Offload("lookup", 8)
        self._callers: dict[str, Caller] = {}
        self._figures: dict[str, dict[str, float]] = {}
        self._conditions: dict[str, str] = {}
        metrics.REFUSED_RESULTS.set_function(self._refused)

    async def serve(self, caller: Caller) -> None:
        """A client's connection, from its start to its end."""
        endpoint = await self._who(caller)
        if endpoint is None:
            log.warning("process %d of uid %d is no user endpoint; it was disconnected", caller.pid, caller.uid)
            return
        former, self._callers[endpoint.id] = self._callers.get(endpoint.id), caller
        if former is not None:
            former.hang_up()
        if endpoint.waiting:
            self.refresh(endpoint)
        try:
            await self._listen(endpoint, caller)
        except ValueError as error:
            about = {"endpoint": endpoint.id, "user": endpoint.user}
            log.warning("broke the control protocol and was disconnected: %s", error, extra=about)
        finally:
            if self._callers.get(endpoint.id) is caller:
                del self._callers[endpoint.id]
                self._figures.pop(endpoint.id, None)
                self._conditions.pop(endpoint.id, None)

    def refresh(self, endpoint: Endpoint) -> None:
        """Give a running endpoint the newest credentials; one that isn't connected gets them when it is."""
        caller, request = self._callers.get(endpoint.id), endpoint.request
        if caller is not None and request is not None and request.user == endpoint.user:
            caller.send({"type": "credentials", "amqp_creds": request.credentials.amqp.reveal()})

    def end(self, endpoint: Endpoint, reason: str) -> None:
        """Have a running endpoint end, and all its tasks; one that isn't connected only hears of a signal."""
        caller = self._callers.get(endpoint.id)
        if caller is not None:
            caller.send({"type": "end", "reason": reason})

    def figures(self, endpoint: Endpoint) -> dict[str, float] | None:
        """What the endpoint said last about its work; None while it isn't connected."""
        return self._figures.get(endpoint.id, {}) if endpoint.id in self._callers else None

    def condition(self, endpoint: Endpoint) -> str:
        """What the endpoint said last about what is in the way of its tasks; empty where nothing is."""
        return self._conditions.get(endpoint.id, "")

    def _refused(self) -> float:
        return sum(figures.get("refused_results", 0) for figures in self._figures.values())

    async def _who(self, caller: Caller) -> Endpoint | None:
        pid = caller.pid
        for _ in range(_LEVELS):
            endpoint = self._supervisor.of_process(pid)
            if endpoint is not None:
                return endpoint if await self._uid(endpoint.user) == caller.uid else None
            pid = _parent(pid)
        return None

    async def _uid(self, user: str) -> int | None:
        try:
            return await self._lookups.run(_LOOK_UP_LIMIT, lambda: account.look_up(user).uid)
        except (CommandError, TimeoutError):
            return None

    async def _listen(self, endpoint: Endpoint, caller: Caller) -> None:
        while (message := await caller.receive()) is not None:
            if message.get("type") == "figures":
                self._figures[endpoint.id] = _read_figures(message.get("figures"))
                self._conditions[endpoint.id] = _read_condition(message.get("condition", ""))
            elif message.get("type") == "journal":
                self._supervisor.owes(endpoint, _read_count(message.get("tasks")))
            elif message.get("type") == "audit":
                number, records = _read_records(message)
                safe = False
                if self._audit is not None:
                    lines = self._audit.lines(caller.uid, endpoint.pid, endpoint.id, records)
                    safe = await self._audit.write(lines)
                caller.send({"type": "audited" if safe else "unaudited", "number": number})
            else:
                raise ValueError("a message of an unknown type")


def _parent(pid: int) -> int:
    """The parent of a process (proc_pid_stat(5)); 0 where it can't be known."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return 0


def _read_figures(found: Any) -> dict[str, float]:
    if not isinstance(found, dict) or len(found) > _MOST_FIGURES:
        raise ValueError("the figures are no short mapping")
    numbers = {name: value for name, value in found.items() if type(value) in (int, float) and abs(value) < _MOST}
    return {name: value for name, value in numbers.items() if _NAME.fullmatch(name)}


def _read_condition(found: Any) -> str:
    "One line of printable characters: an administrator's terminal shows it."
    if not isinstance(found, str):
        raise ValueError("the condition is no text")
    return "".join(character if character.isprintable() else " " for character in found[:_LONGEST_CONDITION])


def _read_count(found: Any) -> int:
    if type(found) is not int or found < 0:
        raise ValueError("a journal without a number of tasks")
    return found


def _read_records(message: dict[str, Any]) -> tuple[int, list[str]]:
    number, records = message.get("number"), message.get("records")
    if type(number) is not int or not isinstance(records, list) or not all(isinstance(one, str) for one in records):
        raise ValueError("an audit message without number or records")
    return number, records
