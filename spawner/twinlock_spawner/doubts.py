"""What an administrator should look at in a policy that is good: what it leaves open, and names that nobody has here.

For ``--check`` alone, when a person asks. It looks names up by NSS, which may run modules of the site: the process that
serves never does that outside of a child.
"""

import grp
import os
import pwd
import resource
from collections.abc import Callable, Iterator

from twinlock_spawner.policy import Policy

_SHELLS = {"sh", "bash", "dash", "ksh", "zsh", "csh", "tcsh"}


def _find_limit(name: str) -> object:
    return getattr(resource, f"RLIMIT_{name.upper()}")


_LOOK_UPS: dict[str, tuple[Callable[[str], object], str]] = {
    "deny_users": (pwd.getpwnam, "there is no account {!r} on this host, so it keeps nobody out"),
    "deny_groups": (grp.getgrnam, "there is no group {!r} on this host, so it keeps nobody out"),
    "allow_groups": (grp.getgrnam, "there is no group {!r} on this host, so it lets nobody in"),
    "allowed_shells": (os.stat, "there is no {!r} on this host, so it lets nobody in"),
    "rlimits": (_find_limit, "there is no limit {!r} in setrlimit(2), so every start fails"),
}
"""By the key that has names: how one is found, and what is said of one that isn't there."""


def doubts(policy: Policy) -> Iterator[str]:
    """Yield a line for each doubt about the policy."""
    if policy.broker_user == "root":
        yield "broker_user: a broker that is root needs no spawner to do what it likes; give it an account of its own"
    if not policy.allow_groups:
        yield "allow_groups is empty, so every account that nothing keeps out may run endpoints; name a group"
    for name, command in policy.programs.items():
        if os.path.basename(command[0]) in _SHELLS:
            yield f"programs: {name!r} is a shell; name a script of root's instead, which is checked before each start"
    yield from _unknown_names(policy)
    if policy.pam_service and not os.path.exists(f"/etc/pam.d/{policy.pam_service}"):
        yield f"pam_service: there is no /etc/pam.d/{policy.pam_service}, so PAM's rules for 'other' count; create it"


def _unknown_names(policy: Policy) -> Iterator[str]:
    """Yield a line for each name that stands for nothing here, unless it is one of the defaults."""
    for key, (find, text) in _LOOK_UPS.items():
        for name in getattr(policy, key):
            if name not in getattr(Policy, key) and not _is_known(name, find):
                yield f"{key}: {text.format(name)}; correct the name"


def _is_known(name: str, find: Callable[[str], object]) -> bool:
    try:
        find(name)
    except (KeyError, ValueError, OSError, AttributeError):  # ValueError for a name that can't be one
        return False
    return True
