"""The account that an identity gets, and whether the spawner's policy lets that account in.

The spawner alone decides. This says beforehand what it would decide, by the policy's own keys.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from twinlock_common.account import Account

from twinlock_broker.errors import CommandError
from twinlock_broker.identity import account
from twinlock_broker.identity.mapping import Mapper, Match
from twinlock_broker.identity.resolver import Identities, Resolver

DEFAULTS: Mapping[str, Any] = {
    "system_uids": [[0, 999], [60000, 65535], [2147352576, 4294967295]],
    "deny_users": ["root", "nobody", "slurm", "munge"],
    "deny_groups": [
        "root",
        "shadow",
        "disk",
        "kmem",
        "staff",
        "sudo",
        "wheel",
        "docker",
        "lxd",
        "incus-admin",
        "libvirt",
        "mock",
        "microk8s",
        "slurm",
        "munge",
    ],
    "allowed_shells": [],
    "allow_groups": [],
}
"""The spawner's defaults for keys that its policy doesn't have. An empty list is no condition."""

_READERS = ("adm", "systemd-journal")
"""Groups that read the system's logs: not as good as root, but more than most people are to have."""


def resolve(mapper: Mapper, groups: Sequence[str], identities: Identities) -> tuple[Match, Account]:
    """Return the match and account that a broker with the `allow_groups` `groups` takes. Raise `CommandError`."""
    return asyncio.run(Resolver(mapper, groups).resolve(identities))


def refusal(policy: Mapping[str, Any], local: Account) -> str:
    """Return why the policy keeps the account out, with the name of the key; an empty text if it lets the account in.

    A value of the wrong kind counts as the default: the spawner's ``--check`` reports what is wrong with a policy.
    """
    values = {key: _value(policy, key) for key in DEFAULTS}
    return _by_the_broker(policy.get("broker_user"), local) or _by_conditions(values, local)


def _by_the_broker(name: object, local: Account) -> str:
    try:
        broker = account.look_up(str(name))
    except CommandError:
        return ""
    if local.uid == broker.uid:
        return "broker_user: it is the broker's own account"
    if broker.gid in (local.gid, *local.groups):
        return "broker_user: it is in the broker's own group"
    return ""


def _by_conditions(values: Mapping[str, Any], local: Account) -> str:
    if any(first <= local.uid <= last for first, last in values["system_uids"]):
        return f"system_uids: its uid, {local.uid}, is in one of the ranges"
    if local.name in values["deny_users"]:
        return "deny_users names it"
    denied = account.groups_of(local, values["deny_groups"])
    if denied:
        return f"deny_groups: it is in {', '.join(denied)}"
    if values["allowed_shells"] and local.shell not in values["allowed_shells"]:
        return f"allowed_shells doesn't name {local.shell!r}, its shell"
    if values["allow_groups"] and not account.groups_of(local, values["allow_groups"]):
        return f"allow_groups: it is in none of {', '.join(values['allow_groups'])}"
    return ""


def doubt(local: Account) -> str:
    """Return what is odd about an account that the policy lets in; an empty text if nothing is."""
    as_root = account.groups_of(local, DEFAULTS["deny_groups"])
    if as_root:
        return f"it is in {', '.join(as_root)}, which is as good as root: the policy's deny_groups replaces the default"
    readers = account.groups_of(local, _READERS)
    return f"it is in {', '.join(readers)}, so its tasks can read the host's logs" if readers else ""


def _value(policy: Mapping[str, Any], key: str) -> Any:
    value = policy.get(key)
    is_right = _are_texts
    if key == "system_uids":
        value = policy.get(key, _from_min_uid(policy.get("min_uid")))
        is_right = _are_ranges
    return value if is_right(value) else DEFAULTS[key]


def _from_min_uid(least: object) -> object:
    """Return what the spawner, for one version, makes of a policy from before `system_uids`."""
    if type(least) is not int or least < 0:
        return None
    return [[0, max(least, 1) - 1], *DEFAULTS["system_uids"][1:]]


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _are_ranges(value: object) -> bool:
    return isinstance(value, list) and all(_is_range(item) for item in value)


def _is_range(value: object) -> bool:
    return isinstance(value, list) and [type(uid) for uid in value] == [int, int]
