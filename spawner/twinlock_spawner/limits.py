"""The resource limits of an endpoint: one of a start's stages."""

import resource

from twinlock_spawner import tree
from twinlock_spawner.start import Start


def set_limits(start: Start) -> None:
    """Set the policy's limits, and leave behind what is the service's and not the user's. PAM may set some anew."""
    for name, (soft, hard) in start.policy.rlimits.items():
        limit = getattr(resource, f"RLIMIT_{name.upper()}")
        _, most = resource.getrlimit(limit)
        resource.setrlimit(limit, (_at_most(soft, most), _at_most(hard, most)))
    tree.write("/proc/self/oom_score_adj", "0")


def _at_most(value: int, most: int) -> int:
    """Return the limit `value`, or `most` if that is lower: to raise that needs a capability that containers lack."""
    if most == resource.RLIM_INFINITY:
        return value
    return most if value == resource.RLIM_INFINITY else min(value, most)
