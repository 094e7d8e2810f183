"""Processes of a command that run as an account, since what they open belongs to it."""

import os
import pwd
from typing import Any

from twinlock_broker.errors import Fatal


def entry(account: str) -> pwd.struct_passwd:
    """Return the account's entry of the user database. Raise `Fatal` (67) if there is none. Blocks."""
    try:
        return pwd.getpwnam(account)
    except (KeyError, ValueError):
        raise Fatal(os.EX_NOUSER, f"this host has no account {account!r}; see `getent passwd`") from None


def identity(row: pwd.struct_passwd) -> dict[str, Any]:
    """Return the arguments of `Popen` by which a process gets the account's ids. Raise `Fatal` (77)."""
    if os.geteuid() == row.pw_uid:
        return {}
    if os.geteuid() != 0:
        raise Fatal(os.EX_NOPERM, f"{row.pw_name}: only root may ask about another account; try sudo")
    groups = os.getgrouplist(row.pw_name, row.pw_gid)
    return {"user": row.pw_uid, "group": row.pw_gid, "extra_groups": groups}
