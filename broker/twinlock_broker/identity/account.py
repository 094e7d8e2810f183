"""The local account that an identity was mapped to."""

import grp
import os
import pwd
from collections.abc import Iterable

from twinlock_common.account import Account

from twinlock_broker.errors import CommandError


def shown(name: str) -> str:
    """Return an account's name for people: in quotes, as it is, unless it has characters that can't be shown."""
    return f"'{name}'" if name.isprintable() else repr(name)


def look_up(name: str) -> Account:
    """Return the account `name`. Raise `CommandError` if there is none. Blocks: a name service may be slow, or hang."""
    try:
        row = pwd.getpwnam(name)
    except (KeyError, ValueError) as error:
        raise CommandError(
            f"You are mapped to the account {shown(name)}, which doesn't exist on this host. "
            "Ask the endpoint's administrator for an account"
        ) from error
    groups = tuple(os.getgrouplist(row.pw_name, row.pw_gid))
    return Account(row.pw_name, row.pw_uid, row.pw_gid, groups, row.pw_gecos, row.pw_shell, row.pw_dir)


def is_member(account: Account, groups: Iterable[str]) -> bool:
    """Return whether the account is in one of the `groups`, by their names. Blocks, as `look_up` does."""
    return bool(groups_of(account, groups))


def groups_of(account: Account, groups: Iterable[str]) -> list[str]:
    """Return those of the `groups`, by their names, that the account is in. Blocks, as `look_up` does."""
    found = []
    for name in groups:
        try:
            gid = grp.getgrnam(name).gr_gid
        except KeyError:  # a group that isn't there has no members
            continue
        if gid in (account.gid, *account.groups):
            found.append(name)
    return found


def check(account: Account, own_uid: int, privileged: bool) -> None:
    """Raise `CommandError` for root, and for the broker's own account if the spawner is `privileged`.

    The spawner's policy is what decides; this says it sooner and more clearly.
    """
    if account.uid == 0:
        raise CommandError(
            "You are mapped to root, and nobody runs tasks as root here. "
            "Ask the endpoint's administrator to map you to an account of your own"
        )
    if privileged and account.uid == own_uid:
        raise CommandError(
            f"You are mapped to {shown(account.name)}, the endpoint's own service account, which runs no tasks. "
            "Ask the endpoint's administrator to map you to an account of your own"
        )
