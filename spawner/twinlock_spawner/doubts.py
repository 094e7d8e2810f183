"""What an administrator should look at in a policy that is good: names that this host doesn't know.

For ``--check`` alone, when a person asks. It looks names up by NSS, which may run modules of the site: the process that
serves never does that outside of a child.
"""

import grp
import os
import pwd
import resource
from collections.abc import Callable, Iterator

from twinlock_spawner.policy import Policy


def doubts(policy: Policy) -> Iterator[str]:
    """A line for each name that stands for nothing here."""
    for name in policy.deny_users:
        if not _known(pwd.getpwnam, name):
            yield f"deny_users: there is no account {name!r} on this host, so it keeps nobody out; correct the name"
    for name in policy.allow_groups:
        if not _known(grp.getgrnam, name):
            yield f"allow_groups: there is no group {name!r} on this host, so it lets nobody in; correct the name"
    for path in policy.allowed_shells:
        if not os.path.exists(path):
            yield f"allowed_shells: there is no {path!r} on this host, so it lets nobody in; correct the path"
    for name in policy.rlimits:
        if not hasattr(resource, f"RLIMIT_{name.upper()}"):
            yield f"rlimits: there is no limit {name!r}, so every start fails; the names are those of setrlimit(2)"
    if policy.pam_service and not os.path.exists(f"/etc/pam.d/{policy.pam_service}"):
        yield f"pam_service: there is no /etc/pam.d/{policy.pam_service}, so PAM's rules for 'other' count; create it"


def _known(find: Callable[[str], object], name: str) -> bool:
    try:
        find(name)
    except (KeyError, ValueError):  # the latter for a name that can't be one
        return False
    return True
