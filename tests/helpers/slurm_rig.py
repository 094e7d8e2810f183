"""Endpoints on a private Slurm: their configuration, tasks that know their job, and commands of Slurm's that fail."""

import shlex
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import endpoint_rig
import psutil
from endpoint_rig import Running
from twinlock_testbed.daemons import DaemonError
from twinlock_testbed.slurm import Slurm

NODES = ("node1", "node2")
_COMMANDS = ("sbatch", "squeue", "scancel", "scontrol", "sacct")
_WRAPPER = """\
#!/bin/sh
if fault=$(cat {folder}/{name}.fault 2>/dev/null); then
    echo "$*" >> {folder}/{name}.failed
    eval "$fault"
fi
exec /usr/bin/{name} "$@"
"""
_QUICK = """
engine:
  type: GlobusComputeEngine
  max_workers_per_node: 1
  heartbeat_period: 1
  heartbeat_threshold: {threshold}
  max_retries_on_system_failure: {retries}
  max_scheduler_outage: {outage}
  job_status_kwargs: {{strategy_period: 1, max_idletime: {idle}}}
  provider:
    type: SlurmProvider
    scheduler_options: "#SBATCH --nodelist={node}{options}"
    exclusive: false
    init_blocks: {init}
    max_blocks: {most}
    walltime: "00:10:00"
    cmd_timeout: 60
heartbeat_period: 5
"""


def quick(
    *,
    retries: int = 0,
    node: str = NODES[0],
    init: int = 1,
    most: int = 1,
    idle: int = 120,
    outage: float = 900,
    threshold: int = 60,
    options: str = "",
) -> str:
    """A configuration for one job at a time. `options` are more of sbatch's, each behind a space.

    Workers are lost after `threshold` seconds without a word of theirs; a busy machine may leave them without a turn
    for some.
    """
    values = {"retries": retries, "node": node, "init": init, "most": most, "idle": idle, "outage": outage}
    return _QUICK.format(**values, options=options, threshold=threshold)


def until(condition: Callable[[], object], limit_s: float = endpoint_rig.LIMIT_S) -> None:
    """Wait until the condition holds. A scheduler takes its time, and attempts are up to 16 s apart in the tests."""
    endpoint_rig.until(condition, limit_s)


class Faults:
    """Slurm's commands for one user, which fail while a test wants it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.bin = folder / "bin"
        """The folder of the commands, which has to be first on PATH."""
        self.bin.mkdir()
        for name in _COMMANDS:
            (self.bin / name).write_text(_WRAPPER.format(folder=folder, name=name))
            (self.bin / name).chmod(0o755)
            (folder / f"{name}.failed").touch()
            (folder / f"{name}.failed").chmod(0o666)

    def fail(self, words: str, *commands: str) -> None:
        """From now on these commands, all without any, print these words and fail."""
        self.do(f"echo {shlex.quote(words)} >&2; exit 1", *commands)

    def do(self, script: str, *commands: str) -> None:
        """From now on these commands, all without any, do this instead."""
        for name in commands or _COMMANDS:
            draft = self._folder / f"{name}.draft"  # nobody may come upon half of it
            draft.write_text(script)
            draft.rename(self._folder / f"{name}.fault")

    def mend(self) -> None:
        """Commands work again."""
        for path in self._folder.glob("*.fault"):
            path.unlink()

    def count(self, command: str) -> int:
        """How often this one has failed so far."""
        return len((self._folder / f"{command}.failed").read_text().splitlines())

    def environment(self, slurm: Slurm) -> dict[str, str]:
        """What leads an endpoint to the commands and the cluster."""
        return {**slurm.environment(), "PATH": f"{self.bin}:/usr/local/bin:/usr/bin:/bin"}


def end_processes(config: Path) -> None:
    """End what a cluster that has ended, with this configuration, has left: jobs, and children of killed pools.

    A cluster with cgroups does that itself; this one finds a job's processes by their parents.
    """
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("SLURM_CONF") == str(config):
                process.kill()


def leave(running: Running, slurm: Slurm) -> None:
    """End the endpoint in order, which leaves nothing, neither here nor in Slurm's queue; and it never lost its way."""
    assert "Callback threw an exception" not in running.log(), "Parsl's poller failed"
    running.signal()
    end = running.end()
    assert (end.code, end.left) == (0, [])
    until(lambda: not slurm.jobs())


def cancel_jobs(slurm: Slurm) -> None:
    """Cancel all that is in the queue, of which some may end by itself in the same moment."""
    for line in slurm.jobs():
        with suppress(DaemonError):
            slurm.run("scancel", line.split()[0])
    until(lambda: not slurm.jobs())


def hold(path: str, *, every_time: bool = False) -> str:
    """Say in which job this runs, and stay; with `every_time` also where it is a second attempt."""
    import os
    import pathlib
    import time

    job = os.environ["SLURM_JOB_ID"]
    with pathlib.Path(path).open("a") as runs:
        runs.write(f"{job}\n")
    while every_time or len(pathlib.Path(path).read_text().split()) == 1:
        time.sleep(0.05)
    return job


def wait_for(path: str) -> str:
    """Say in which job this runs, and stay until the file is there."""
    import os
    import pathlib
    import time

    pathlib.Path(path + ".began").write_text(os.environ["SLURM_JOB_ID"] + "\n")
    while not pathlib.Path(path).exists():
        time.sleep(0.05)
    return os.environ["SLURM_JOB_ID"]


def began(path: Path) -> str:
    """The job in which `hold` or, with its path and ".began", `wait_for` runs."""
    until(lambda: path.exists() and path.read_text().endswith("\n"))
    return path.read_text().split()[0]
