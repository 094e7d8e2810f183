"""The administrator's orders about who may start endpoints. Each goes into the log, and the audit, with who gave it.

Requests are JSON objects:
{"request": "block", "user", "reason"}, {"request": "unblock", "user"}, {"request": "drain", "reason"}
and {"request": "resume"}. The answer is {"done": whether anything changed}, or {"failed": what became of it instead}.
"""

import asyncio
import logging
import pwd
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from twinlock_common.files import NotDurable
from twinlock_common.offload import Offload

from twinlock_broker.audit import AuditLog
from twinlock_broker.control.listener import Caller
from twinlock_broker.endpoints.admission import Admission, Entry
from twinlock_broker.printable import printable

LONGEST_REASON = 500
"""Characters of a reason; users get it as a part of an error."""

WRITE_LIMIT = 30.0
"""Seconds that whoever gives an order waits for the disk."""

_LOOK_UP_LIMIT = 5.0
_NOBODY = (1 << 32) - 1  # the login uid of what no login has started, proc_pid_loginuid(5)

log = logging.getLogger(__name__)

Order = Callable[[Mapping[str, Any], str], Awaitable[bool]]
"""A function that is given the request and who gave it, and that returns whether anything changed."""


class Orders:
    """The orders about `admission`, and how they are carried out."""

    def __init__(self, admission: Admission, audit: AuditLog | None) -> None:
        self._admission = admission
        self._audit = audit
        self._lookups = Offload("lookup", 1)
        self._under_way: set[asyncio.Task[dict[str, Any]]] = set()
        self.known: Mapping[str, Order] = {
            "block": self._block,
            "unblock": lambda request, _: self._admission.unblock(_text(request, "user")),
            "drain": self._drain,
            "resume": lambda *_: self._admission.end_drain(),
        }
        """The orders that there are, by the request's name."""

    @property
    def in_force(self) -> dict[str, Any]:
        """What was ordered: `drain` and `blocked`."""
        return self._admission.describe()

    async def carry_out(self, name: str, request: Mapping[str, Any], caller: Caller) -> dict[str, Any]:
        """Carry out the request called `name` and return the answer. Raise `ValueError` if it lacks a text.

        What the disk hasn't taken within `WRITE_LIMIT` can't be taken back; it is in force when the disk has taken it.
        """
        order = asyncio.create_task(self._carry_out(name, request, await self.who(caller)))
        self._under_way.add(order)
        order.add_done_callback(self._under_way.discard)
        done, _ = await asyncio.wait((order,), timeout=WRITE_LIMIT)
        if not done:
            return {"failed": "the broker's disk doesn't answer: not in force yet; it will be when the disk answers"}
        return order.result()

    async def _carry_out(self, name: str, request: Mapping[str, Any], by: str) -> dict[str, Any]:
        order = f"{name} {request.get('user', '')}".strip()
        try:
            done = await self.known[name](request, by)
        except NotDurable as error:
            await self._note(order, by, request.get("reason"))
            return {"failed": f"the broker's disk fails: {error.strerror}; in force, but a power cut may undo it"}
        except OSError as error:
            log.error("the administrator's order: %s, given by %s, can't be written: %s", order, by, error.strerror)
            return {"failed": f"the broker can't write its state folder: {error.strerror}; nothing was changed"}
        if done:
            await self._note(order, by, request.get("reason"))
        return {"done": done}

    async def who(self, caller: Caller) -> str:
        """Return the caller's account and, if it differs, that of the login it came from, such as sudo's user."""
        names = [await self._name(uid) for uid in _uids(caller)]
        return " by login ".join(names)

    async def _name(self, uid: int) -> str:
        try:
            return await self._lookups.run(_LOOK_UP_LIMIT, lambda: pwd.getpwuid(uid).pw_name)
        except (KeyError, TimeoutError):
            return f"uid {uid}"

    async def _block(self, request: Mapping[str, Any], by: str) -> bool:
        await self._admission.block(_text(request, "user"), Entry(_text(request, "reason"), by))
        return True

    async def _drain(self, request: Mapping[str, Any], by: str) -> bool:
        await self._admission.start_drain(Entry(_text(request, "reason"), by))
        return True

    async def _note(self, order: str, by: str, reason: Any) -> None:
        text = f"the administrator's order: {order}, given by {by}" + (f": {reason}" if reason else "")
        log.warning("%s", text)
        if self._audit is not None:
            await self._audit.note(text)


def _uids(caller: Caller) -> list[int]:
    try:
        login = int(Path(f"/proc/{caller.pid}/loginuid").read_text())
    except (OSError, ValueError):  # it has ended, or the kernel has no audit
        login = _NOBODY
    return [caller.uid] if login in (_NOBODY, caller.uid) else [caller.uid, login]


def _text(request: Mapping[str, Any], name: str) -> str:
    """Return a text of the request, on one line."""
    value = request.get(name)
    if not isinstance(value, str) or not value:
        raise ValueError(f"it has no {name}")
    return printable(value, LONGEST_REASON)
