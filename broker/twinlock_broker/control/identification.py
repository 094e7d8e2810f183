"""Which user endpoint a connection comes from: the kernel says which process, the spawner whose process that is."""

import asyncio
import time

from twinlock_common.offload import Offload

from twinlock_broker import processes
from twinlock_broker.control.listener import Caller
from twinlock_broker.endpoints.endpoint import Endpoint
from twinlock_broker.endpoints.supervisor import Supervisor
from twinlock_broker.errors import CommandError
from twinlock_broker.identity import account

_LEVELS = 3
"""Levels of processes: the one that the spawner knows, and below it, with guards, the inner guard and the endpoint."""

_LOOK_UP_LIMIT = 10.0
_START_LIMIT = 5.0


class Identification:
    """The search for the endpoint of `supervisor` to which a process belongs."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._lookups = Offload("lookup", 8)
        self._uids: dict[str, int] = {}

    async def endpoint_of(self, caller: Caller) -> Endpoint | None:
        """Return which endpoint the caller is, None if it is none.

        Its process may connect before the spawner has said that there is one, so starts under way are waited for.
        """
        deadline = time.monotonic() + _START_LIMIT
        endpoint = await self._known(caller)
        while endpoint is None and await self._start_decided(deadline - time.monotonic()):
            endpoint = await self._known(caller)
        return endpoint

    async def _start_decided(self, limit: float) -> bool:
        """Wait for the next of the starts that are under way.

        Return False if there is none any more, or none is decided within `limit` seconds.
        """
        launches = [one.launch for one in self._supervisor.endpoints if one.launch is not None]
        pending = [launch for launch in launches if not launch.done()]
        if not pending or limit <= 0:
            return False
        done, _ = await asyncio.wait(pending, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        return bool(done)

    async def _known(self, caller: Caller) -> Endpoint | None:
        pid = caller.pid
        for _ in range(_LEVELS):
            endpoint = self._supervisor.of_process(pid)
            if endpoint is not None:
                return endpoint if await self._is_of(endpoint.user, caller.uid) else None
            pid = processes.parent(pid)
        return None

    async def _is_of(self, user: str, uid: int) -> bool:
        """Return whether `uid` is the account's. A uid that was found before will do: reconnecting costs no look-up."""
        if self._uids.get(user) != uid:
            try:
                found = await self._lookups.run(_LOOK_UP_LIMIT, lambda: account.look_up(user).uid)
            except (CommandError, TimeoutError):
                return False
            self._uids[user] = found
        return self._uids[user] == uid
