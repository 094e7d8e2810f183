"""Whom the administrator has nothing started for: blocked accounts, and everybody during a drain.

It stands in one file of the state folder, so that it survives a restart of broker and host:

``{"blocked": {ACCOUNT: ENTRY}, "drain": ENTRY or null}``, where ENTRY is ``{"reason", "by", "since"}``.
"""

import asyncio
import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from twinlock_common.files import NotDurable, replacing
from twinlock_common.offload import in_thread
from twinlock_wire import wire

from twinlock_broker import metrics
from twinlock_broker.errors import Fatal

FILE = "admission.json"
"""The file's name in the state folder."""

BLOCKED, DRAINING = "blocked", "draining"
"""The stages of refusals for which this file is the reason."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An order to start nothing."""

    reason: str
    """For users, who are told it."""
    by: str
    """Who gave the order, see `Orders.who`."""
    since: float = field(default_factory=time.time)
    """In seconds since 1970."""


class Admission:
    """The content of the file at `path`. Raises `Fatal` (78) if it can't be read: nobody is let in by mistake."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = asyncio.Lock()
        self.blocked: Mapping[str, Entry] = {}
        """The blocks, by account."""
        self.drain: Entry | None = None
        """The drain; None if there is none."""
        if path.exists():
            self.blocked, self.drain = _read(path)
        self._show()

    def refusal(self, endpoint_id: str, user: str, has_tasks: bool) -> wire.Refused | None:
        """Return why the endpoint of the account `user` may not be started; None if it may.

        `has_tasks` says that it ended with unfinished tasks, which a drain lets come to their end.
        """
        if user in self.blocked:
            return wire.Refused(endpoint_id, BLOCKED, self.blocked[user].reason)
        if self.drain is not None and not has_tasks:
            return wire.Refused(endpoint_id, DRAINING, self.drain.reason)
        return None

    async def block(self, user: str, entry: Entry) -> None:
        """Start nothing for the account `user` from now on. Takes as long as the disk.

        Raises:
            NotDurable: that is in force, but a power cut may undo it.
            OSError: any other; nothing has changed.
        """
        async with self._lock:
            await self._change({**self.blocked, user: entry}, self.drain)

    async def unblock(self, user: str) -> bool:
        """Unblock the account. Return whether it was blocked. Raise as `block` does."""
        async with self._lock:
            if user not in self.blocked:
                return False
            await self._change({name: entry for name, entry in self.blocked.items() if name != user}, self.drain)
            return True

    async def start_drain(self, entry: Entry) -> None:
        """Start nothing for anybody, until `end_drain`. Raise as `block` does."""
        async with self._lock:
            await self._change(self.blocked, entry)

    async def end_drain(self) -> bool:
        """End the drain. Return whether there was one. Raise as `block` does."""
        async with self._lock:
            if self.drain is None:
                return False
            await self._change(self.blocked, None)
            return True

    def describe(self) -> dict[str, Any]:
        """Return the blocked accounts and the drain, as in the file."""
        return _describe(self.blocked, self.drain)

    async def _change(self, blocked: Mapping[str, Entry], drain: Entry | None) -> None:
        """Have the file, and then this process, say so. It is in force as soon as it would be after a restart."""
        text = json.dumps(_describe(blocked, drain))
        try:
            await in_thread(lambda: self._write(text))
        except NotDurable:
            self._put_in_force(blocked, drain)
            raise
        self._put_in_force(blocked, drain)

    def _put_in_force(self, blocked: Mapping[str, Entry], drain: Entry | None) -> None:
        self.blocked, self.drain = blocked, drain
        self._show()

    def _write(self, text: str) -> None:
        with replacing(self._path, durable=True) as draft:
            draft.write_text(text)

    def _show(self) -> None:
        metrics.DRAINING.set(self.drain is not None)
        metrics.BLOCKED_ACCOUNTS.set(len(self.blocked))


def _describe(blocked: Mapping[str, Entry], drain: Entry | None) -> dict[str, Any]:
    entries = {user: asdict(entry) for user, entry in sorted(blocked.items())}
    return {"blocked": entries, "drain": None if drain is None else asdict(drain)}


def _read(path: Path) -> tuple[dict[str, Entry], Entry | None]:
    try:
        found = json.loads(path.read_text())
        blocked = {str(user): _entry(values) for user, values in found["blocked"].items()}
        return blocked, None if found["drain"] is None else _entry(found["drain"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = error.strerror if isinstance(error, OSError) else repr(error)
        raise Fatal(
            os.EX_CONFIG,
            f"{path}: the blocked accounts can't be read: {reason}; correct the file, or remove it, "
            "which unblocks everybody and ends a drain",
        ) from error


def _entry(values: Mapping[str, Any]) -> Entry:
    return Entry(str(values["reason"]), str(values["by"]), float(values["since"]))
