"""Whether the policy lets an account in: three of a start's stages."""

import contextlib
import grp
from collections.abc import Iterable, Iterator

from twinlock_spawner.policy import is_system_uid, local_account
from twinlock_spawner.start import Start


def check_account(start: Start) -> None:
    """Raise `ValueError` for an account that the policy doesn't let in."""
    reason = next(_objections(start), None)
    if reason is not None:
        raise ValueError(f"account {start.request.user} {reason}")


def _objections(start: Start) -> Iterator[str]:
    account = start.account
    policy = start.policy
    if account.pw_name != start.request.user:
        yield f"is another name of {account.pw_name}"
    if account.pw_uid == 0:
        yield "is root, which no endpoint runs as"
    if _is_broker(start):
        yield "is the broker's own"
    if is_system_uid(account.pw_uid, policy):
        yield f"is a system account: its uid {account.pw_uid} is in system_uids"
    if account.pw_name in policy.deny_users:
        yield "is in deny_users"
    if not _has_allowed_shell(start):
        yield "has a shell that is not allowed"
    if not _has_allowed_group(start):
        yield "is in none of the groups that are allowed"


def _has_allowed_shell(start: Start) -> bool:
    allowed = start.policy.allowed_shells
    return not allowed or start.account.pw_shell in allowed


def _is_broker(start: Start) -> bool:
    """Return whether it is the account that commands the spawner; in same-user mode there is no other."""
    if not start.privileged:
        return False
    broker, _ = local_account(start.policy.broker_user)
    return start.account.pw_uid == broker


def _has_allowed_group(start: Start) -> bool:
    allowed = start.policy.allow_groups
    return not allowed or any(gid in start.groups for gid in _find_groups(allowed).values())


def check_groups(start: Start) -> None:
    """Raise `ValueError` where the account's processes would be in a group that is as good as root, or the broker's."""
    for name, gid in _find_groups(start.policy.deny_groups).items():
        if gid in start.groups:
            raise ValueError(f"account {start.request.user} is in the group {name}, which is in deny_groups")
    _, brokers = local_account(start.policy.broker_user)
    if brokers in start.groups:
        raise ValueError(f"account {start.request.user} is in the broker's own group")


def check_session_groups(start: Start) -> None:
    """Do the same again, since PAM's modules may have added groups."""
    if start.policy.pam_service:
        check_groups(start)


def _find_groups(names: Iterable[str]) -> dict[str, int]:
    """Return the gids of those groups that exist."""
    found = {}
    for name in names:
        with contextlib.suppress(KeyError):
            found[name] = grp.getgrnam(name).gr_gid
    return found
