"""What an administrator should look at in a policy that is good: what it leaves open, and names that nobody has here.

For ``--check`` alone, when a person asks. It looks names up by NSS, which may run modules of the site: the process that
serves never does that outside of a child.
"""

import grp
import os
import pwd
import resource
from collections.abc import Callable, Iterable, Iterator

from twinlock_spawner.policy import Policy

_SHELLS = {"sh", "bash", "dash", "ksh", "zsh", "csh", "tcsh"}


def doubts(policy: Policy) -> Iterator[str]:
    """A line for each of them."""
    if not policy.allow_groups:
        yield "allow_groups is empty, so every account that nothing keeps out may run endpoints; name a group"
    for name, command in policy.programs.items():
        if os.path.basename(command[0]) in _SHELLS:
            yield f"programs: {name!r} is a shell; name a script of root's instead, which is checked before each start"
    yield from _unknown_names(policy)


def _unknown_names(policy: Policy) -> Iterator[str]:
    """A line for each name that stands for nothing here, unless it is one of the defaults."""
    for name in _unknown(set(policy.deny_users).difference(Policy.deny_users), pwd.getpwnam):
        yield f"deny_users: there is no account {name!r} on this host, so it keeps nobody out; correct the name"
    for name in _unknown(set(policy.deny_groups).difference(Policy.deny_groups), grp.getgrnam):
        yield f"deny_groups: there is no group {name!r} on this host, so it keeps nobody out; correct the name"
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
