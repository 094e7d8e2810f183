"""The way from the identities in a command to the local account that its endpoint runs under."""

import os
import pwd
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

from twinlock_common.account import Account
from twinlock_common.offload import Offload, T

from twinlock_broker.errors import CommandError
from twinlock_broker.identity import account
from twinlock_broker.identity.mapping import Mapper, Match, same_user
from twinlock_broker.limited import limited

MAP_LIMIT = 15.0
LOOK_UP_LIMIT = 10.0
"""Seconds for each of the steps that can block."""

_MOST = 20  # accounts of one person that are looked up

Identities = Collection[Mapping[str, Any]]


class Resolver:
    """The accounts that identities get, with limits for the steps that can block.

    `who` is the mapper of a privileged site, or in same-user mode the identities of the login, who alone are served.
    With `groups`, the first match whose account is in one of them is taken; without them, the first match.
    """

    def __init__(self, who: Mapper | frozenset[str], groups: Sequence[str]) -> None:
        self._who = who
        self._groups = groups
        self._mappers = Offload("mapper", 16)
        self._lookups = Offload("lookup", 8)

    async def resolve(self, identities: Identities) -> tuple[Match, Account]:
        """Return the match and its account. Raise `CommandError`."""
        matches = await self._map(identities)
        match, local = await self._choose(matches[:_MOST]) if self._groups else await self._first(matches)
        account.check(local, os.getuid(), privileged=isinstance(self._who, Mapper))
        return match, local

    async def _map(self, identities: Identities) -> list[Match]:
        who = self._who
        if isinstance(who, Mapper):
            return await limited(self._mappers, MAP_LIMIT, "mapping you", lambda: who.map(identities))
        return [same_user(identities, who, pwd.getpwuid(os.getuid()).pw_name)]

    async def _first(self, matches: Sequence[Match]) -> tuple[Match, Account]:
        return matches[0], await self._look_up(matches[0].user, lambda: account.look_up(matches[0].user))

    async def _choose(self, matches: Sequence[Match]) -> tuple[Match, Account]:
        for match in matches:
            local = await self._look_up(match.user, partial(_member, match.user, self._groups))
            if local is not None:
                return match, local
        names = ", ".join(account.shown(match.user) for match in matches)
        raise CommandError(
            f"You are mapped to {names}, which is in none of the groups that may use this endpoint. "
            "Ask the endpoint's administrator for access"
        )

    async def _look_up(self, name: str, call: Callable[[], T]) -> T:
        return await limited(self._lookups, LOOK_UP_LIMIT, f"looking up the account {account.shown(name)}", call)


def _member(user: str, groups: Sequence[str]) -> Account | None:
    """Return the account, if there is one and it is in one of the groups; else None. Blocks."""
    try:
        local = account.look_up(user)
    except CommandError:
        return None
    return local if account.is_member(local, groups) else None
