"""The endpoints' cgroups: where they are, and what limits the kernel keeps them to. See cgroups(7).

Below the policy's `cgroup` a spawner has a folder, in that each account, and in that each of its endpoints:
PID/u-USER/ID. A file such as memory.max is a controller's. A folder has it where `cgroup.subtree_control` of the folder
above names the controller, which the kernel refuses while a process is in the folder above.
"""

import contextlib
import os

from twinlock_spawner import tree
from twinlock_spawner.policy import CONTROLLERS, Policy, PolicyError

_PREFIX = "u-"
"""What an account's folder begins with, since an account may be called as a file of the kernel's is."""

_ASIDE = "spawner"
"""Where processes go that were in the policy's `cgroup` itself. A start kills only what is in folders of spawners."""


def own_folder(cgroup: str) -> str:
    """Return the folder of all endpoints of this spawner, in the policy's `cgroup`."""
    return f"{cgroup}/{os.getpid()}"


def path(policy: Policy, user: str, id: str) -> str:
    """Return the path of an endpoint's cgroup; empty where the policy has none."""
    return f"{own_folder(policy.cgroup)}/{_PREFIX}{user}/{id}" if policy.cgroup else ""


def make(policy: Policy, cgroup: str) -> None:
    """Make an endpoint's folder `cgroup`, unless that is empty, with its account's, and set their limits.

    Raises `OSError` that names the file and, where the kernel refuses a limit, the value.
    """
    if not cgroup:
        return
    account = os.path.dirname(cgroup)
    os.makedirs(account, exist_ok=True)
    if policy.limits or policy.user_limits:
        _move_aside(policy.cgroup)
        for folder in (policy.cgroup, os.path.dirname(account), account):
            for name in _needed(policy):
                tree.write(f"{folder}/cgroup.subtree_control", f"+{name}")
    _set(account, policy.user_limits)
    os.mkdir(cgroup)
    _set(cgroup, policy.limits)


def clear(cgroup: str) -> bool:
    """Kill what is in an endpoint's folder; remove that, and its account's with the last; return whether it is gone.

    Call again where some still die.
    """
    if not tree.kill_cgroup(cgroup):
        return False
    above = os.path.dirname(cgroup)
    if os.path.basename(above).startswith(_PREFIX):  # an endpoint of an older spawner has no account's
        with contextlib.suppress(OSError):  # the account has others
            os.rmdir(above)
    return True


def release(cgroup: str) -> None:
    """Take the controllers away that nothing in `cgroup` uses. With one left, no process can be put into `cgroup`."""
    for name in CONTROLLERS:
        with contextlib.suppress(OSError):  # it is in use, or the kernel has none
            tree.write(f"{cgroup}/cgroup.subtree_control", f"-{name}")


def release_all(cgroup: str) -> None:
    """Do so in the folders below first: one with a process that can't be killed yet may be left of an endpoint."""
    for folder, _, _ in os.walk(cgroup, topdown=False):
        release(folder)


def check_controllers(policy: Policy) -> None:
    """Raise `PolicyError` where the policy's `cgroup` lacks a controller that a limit needs."""
    with contextlib.suppress(OSError):  # it isn't there yet
        there = tree.read(f"{policy.cgroup}/cgroup.controllers").decode().split()
        missing = _needed(policy).difference(there)
        if missing:
            raise PolicyError(
                f"limits: {policy.cgroup} has no controller {' '.join(missing)}, its cgroup.controllers are"
                f" {' '.join(there) or 'none'}; the folder above, or systemd by Delegate=yes, has to give it"
            )


def _needed(policy: Policy) -> set[str]:
    """Return the controllers of the policy's limits: memory for memory.max."""
    return {name.partition(".")[0] for name in (*policy.limits, *policy.user_limits)}


def _move_aside(cgroup: str) -> None:
    """Have no process in the policy's `cgroup` itself, where the service manager has started the spawner."""
    for pid in tree.read(f"{cgroup}/cgroup.procs").decode().split():
        os.makedirs(f"{cgroup}/{_ASIDE}", exist_ok=True)
        with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
            tree.write(f"{cgroup}/{_ASIDE}/cgroup.procs", pid)


def _set(folder: str, limits: dict[str, str]) -> None:
    """Write each limit into its file."""
    for name, value in limits.items():
        tree.write(f"{folder}/{name}", value)
