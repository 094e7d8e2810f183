"""The keeper: a process that kills what is left when the spawner has ended, whatever ended it. Only with cgroups."""

import glob
import os
import select
import signal
import time
from typing import NoReturn

import prctl

from twinlock_spawner import cgroups, kernel, tree
from twinlock_spawner.policy import Policy, PolicyError

_PAUSE = 0.02
"""Seconds until it looks again whether all have died."""

_GIVE_UP = 8.0
"""Seconds after which what was killed and can't end is left to itself: the next spawner waits for ten."""

_LEAVING = 1.0
"""Seconds within which a process that has ended has left its cgroup."""


def try_cgroup(policy: Policy) -> None:
    """Raise `PolicyError` where the kernel, or a container, refuses the cgroups and limits of each endpoint."""
    cgroup = policy.cgroup
    if not cgroup:
        return
    cgroups.check_controllers(policy)
    trial = f"{cgroup}/trial-{os.getpid()}"
    endpoint = f"{trial}/account/endpoint"
    try:
        cgroups.make(policy, endpoint)
        pid = kernel.fork_into(endpoint)
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        if not _remove(trial, _LEAVING):
            raise OSError("what has ended stays in it")
    except OSError as error:
        raise PolicyError(f"cgroup: {error}: no process can be made in {cgroup} and ended there") from error
    finally:
        tree.kill_cgroup(trial)
        cgroups.release(cgroup)


def _remove(cgroup: str, seconds: float) -> bool:
    """Kill what is in a cgroup, and remove it; return whether that has come about within so many seconds."""
    deadline = time.monotonic() + seconds
    while not tree.kill_cgroup(cgroup):
        if time.monotonic() > deadline:
            return False
        time.sleep(_PAUSE)
    return True


def fork_keeper(cgroup: str) -> None:
    """End what an earlier spawner and its keeper have left in the folder `cgroup`, then fork our keeper.

    The keeper has the spawner's locks too, and so keeps the next spawner waiting until it has ended.
    """
    spawner = os.pidfd_open(os.getpid())
    for path in glob.glob(f"{cgroup}/[0-9]*"):  # theirs: the cgroup may not be the spawner's alone, by mistake
        tree.kill_cgroup(path)
    own = cgroups.own_folder(cgroup)
    os.makedirs(own, exist_ok=True)
    if os.fork() == 0:
        _keep(spawner, cgroup, own)
    os.close(spawner)


def _keep(spawner: int, cgroup: str, own: str) -> NoReturn:
    """Wait for the spawner's end, then kill everything in its folder `own` in `cgroup`.

    A file system that doesn't answer may keep a process in the kernel. It does nothing any more, and users can make
    such file systems (FUSE), so the next spawner isn't kept waiting for it.
    """
    os.setpgid(0, 0)  # what ends the spawner mustn't end its keeper, which stays ahead of others with its session
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    prctl.set_proctitle("twinlock-spawner-keeper")
    select.select([spawner], [], [])
    _remove(own, _GIVE_UP)
    cgroups.release_all(cgroup)
    os._exit(0)
