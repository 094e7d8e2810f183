"""Which account an identity gets, and whether the spawner's policy lets that account in.

The spawner alone decides. This says beforehand what it would decide, by the policy's own keys.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from twinlock_broker.identity import account
from twinlock_broker.identity.account import Account
from twinlock_broker.identity.mapping import Mapper, Match
from twinlock_broker.identity.resolver import Identities, Resolver

DEFAULTS: Mapping[str, Any] = {
    "min_uid": 1000,
    "deny_users": ["root", "nobody"],
    "allowed_shells": [],
    "allow_groups": [],
}
"""The spawner's, for keys that its policy doesn't have. An empty list is no condition."""


def resolve(mapper: Mapper, groups: Sequence[str], identities: Identities) -> tuple[Match, Account]:
    """Return the match and account that a broker with the `allow_groups` `groups` takes. Raises `CommandError`."""
    return asyncio.run(Resolver(mapper, groups).resolve(identities))


def refusal(policy: Mapping[str, Any], local: Account) -> str:
    """Return why the policy keeps the account out, with the name of the key; empty where it lets the account in.

    A value of the wrong kind counts as the default: what is wrong with a policy, the spawner's ``--check`` says.
    """
    values = {key: _value(policy, key) for key in DEFAULTS}
    if local.name == policy.get("broker_user"):
        return "broker_user: it is the broker's own account"
    if local.uid < values["min_uid"]:
        return f"min_uid is {values['min_uid']}, and the account's uid is {local.uid}"
    if local.name in values["deny_users"]:
        return "deny_users names it"
    if values["allowed_shells"] and local.shell not in values["allowed_shells"]:
        return f"allowed_shells doesn't name {local.shell!r}, its shell"
    if values["allow_groups"] and not account.is_member(local, values["allow_groups"]):
        return f"allow_groups: it is in none of {', '.join(values['allow_groups'])}"
    return ""


def _value(policy: Mapping[str, Any], key: str) -> Any:
    default, value = DEFAULTS[key], policy.get(key)
    if isinstance(default, int):
        return value if isinstance(value, int) else default
    return value if isinstance(value, list) and all(isinstance(name, str) for name in value) else default
