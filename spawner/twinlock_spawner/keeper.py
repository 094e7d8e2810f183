"""The keeper: a process that kills what is left when the spawner has ended, whatever ended it. Only with cgroups."""

import glob
import os
import select
import signal
import time
from typing import NoReturn

import prctl

from twinlock_spawner import tree

_PAUSE = 0.02
"""Seconds until it looks again whether all have died."""


def fork_keeper(cgroup: str) -> None:
    """End what an earlier spawner and its keeper have left in the folder `cgroup`, then fork our keeper.

    The keeper has the spawner's locks too, and so keeps the next spawner waiting until it has ended.
    """
    spawner = os.pidfd_open(os.getpid())
    for path in glob.glob(f"{cgroup}/*/"):  # the service manager's own begin with a dot
        tree.kill_cgroup(path.rstrip("/"))
    own = f"{cgroup}/{os.getpid()}"
    os.makedirs(own, exist_ok=True)
    if os.fork() == 0:
        _keep(spawner, own)
    os.close(spawner)


def _keep(spawner: int, own: str) -> NoReturn:
    """Wait for the spawner's end, then kill everything in its folder `own`."""
    os.setpgid(0, 0)  # what ends the spawner mustn't end its keeper, which stays ahead of others with its session
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    prctl.set_proctitle("twinlock-spawner-keeper")
    select.select([spawner], [], [])
    while not tree.kill_cgroup(own):
        time.sleep(_PAUSE)
    os._exit(0)
