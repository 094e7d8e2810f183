"""What an administrator should look at in a policy that is good: names that this host doesn't know.

For ``--check`` alone, when a person asks. It looks names up by NSS, which may run modules of the site: the process that
serves never does that outside of a child.
"""

import grp
import os
import pwd
import resource
from collections.abc import Callable, Iterable, Iterator

from twinlock_spawner.policy import Policy


def doubts(policy: Policy) -> Iterator[str]:
    """A line for each name that stands for nothing here."""
    for name in _unknown(policy.deny_users, pwd.getpwnam):
        yield f"deny_users: there is no account {name!r} on this host, so it keeps nobody out; correct the name"
    for name in _unknown(policy.allow_groups, grp.getgrnam):
        yield f"allow_groups: there is no group {name!r} on this host, so it lets nobody in; correct the name"
    for path in _unknown(policy.allowed_shells, os.stat):
        yield f"allowed_shells: there is no {path!r} on this host, so it lets nobody in; correct the path"
    for name in _unknown(policy.rlimits, _limit):
        yield f"rlimits: there is no limit {name!r}, so every start fails; the names are those of setrlimit(2)"
    if policy.pam_service and not os.path.exists(f"/etc/pam.d/{policy.pam_service}"):
        yield f"pam_service: there is no /etc/pam.d/{policy.pam_service}, so PAM's rules for 'other' count; create it"


def _unknown(names: Iterable[str], find: Callable[[str], object]) -> Iterator[str]:
    """Those of the names for which `find` has nothing."""
    for name in names:
        try:
            find(name)
        except (KeyError, ValueError, OSError, AttributeError):  # ValueError for a name that can't be one
            yield name


def _limit(name: str) -> object:
    return getattr(resource, f"RLIMIT_{name.upper()}")
