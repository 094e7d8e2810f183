"""The accounts that two policies let in."""

import grp
import itertools
import pwd
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from twinlock_broker.checks import accounts
from twinlock_broker.checks.finding import patience
from twinlock_broker.errors import CommandError
from twinlock_broker.identity import account

_MOST = 5000
"""Accounts that are tried."""

_ENOUGH = 3


class Common(NamedTuple):
    """What two policies have in common."""

    names: list[str]
    """Some accounts that both let in."""
    unknown: str
    """If there is none: why there may be one all the same; empty if there isn't."""


def find(first: Mapping[str, Any], second: Mapping[str, Any]) -> Common:
    """Return accounts that both policies let in. Blocks: a name service may be slow."""
    if _keeps_out(first, second) or _keeps_out(second, first):
        return Common([], "")
    found: list[str] = []
    with patience("comparing the accounts that the policies let in"):
        tried = list(itertools.islice(dict.fromkeys(_known(first, second)), _MOST))
        for name in tried:
            if _is_let_in(name, first, second):
                found.append(name)
            if len(found) == _ENOUGH:
                break
    if found:
        return Common(found, "")
    if len(tried) == _MOST:
        return Common([], f"there are more than {_MOST} accounts")
    open_to_all = not all(_groups(policy) for policy in (first, second))
    return Common(
        [], "one has no allow_groups, and a name service may have accounts that it doesn't list" * open_to_all
    )


def _keeps_out(policy: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether a policy denies every group that the other one allows: then no account is in both."""
    allowed, denied = _groups(other), _groups(policy, "deny_groups")
    return bool(allowed) and set(allowed) <= set(denied)


def _known(*policies: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of accounts: members of groups first, since a name service doesn't list everybody."""
    for name in (name for policy in policies for name in _groups(policy)):
        try:
            yield from grp.getgrnam(name).gr_mem
        except KeyError:
            continue
    yield from (row.pw_name for row in pwd.getpwall())


def _groups(policy: Mapping[str, Any], key: str = "allow_groups") -> list[str]:
    groups = policy.get(key)
    return [name for name in groups if isinstance(name, str)] if isinstance(groups, list) else []


def _is_let_in(name: str, *policies: Mapping[str, Any]) -> bool:
    try:
        local = account.look_up(name)
    except CommandError:
        return False
    return local.uid != 0 and not any(accounts.refusal(policy, local) for policy in policies)
