"""A private Slurm on loopback: munged, slurmctld and a slurmd for each node, with files and ports of their own."""

import os
import random
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from twinlock_testbed.daemons import Daemon, DaemonError, run

_CONFIG = """\
ClusterName=testbed
SlurmctldHost=localhost(127.0.0.1)
SlurmUser=root
SlurmctldPort={ctld_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
ReturnToService=2
MpiDefault=none
MailProg=/bin/true
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
EnforcePartLimits=ALL
JobSubmitPlugins=lua
KillWait=2
# A daemon of a busy host may keep the others waiting for more than the usual ten seconds.
MessageTimeout=60
BatchStartTimeout=60
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
# FORCE: Parsl asks for whole nodes, and there are few nodes for the blocks of several endpoints.
PartitionName=main Nodes=ALL Default=YES MaxTime=01:00:00 State=UP OverSubscribe=FORCE:8
"""
_NODE = (
    "NodeName={name} NodeHostname=localhost NodeAddr=127.0.0.1 Port={port} CPUs={cpus} RealMemory=2000 State=UNKNOWN\n"
)

REFUSED_ACCOUNT = "overdrawn"
"""What Slurm's accounting would do, which takes a database: the account of this name is refused."""

_JOB_SUBMIT = f"""\
function slurm_job_submit(job, partitions, uid)
    if job.account == "{REFUSED_ACCOUNT}" then
        slurm.log_user("no hours are left on account {REFUSED_ACCOUNT}")
        return slurm.ESLURM_INVALID_ACCOUNT
    end
    return slurm.SUCCESS
end
function slurm_job_modify(job, record, partitions, uid)
    return slurm.SUCCESS
end
"""

_LIMIT = 120.0
"""Seconds for a daemon to be ready."""

# The daemons bind what the host's own name resolves to, and not every host can resolve its name (unshare(1)).
_NAMED_LOCALHOST = ["unshare", "--uts", "sh", "-c", 'hostname localhost && exec "$@"', "sh"]


class Slurm:
    """The cluster while it runs."""

    def __init__(self, config: Path) -> None:
        self.config = config
        """The path of slurm.conf."""
        self.nodes: dict[str, Daemon] = {}
        """The slurmd of each node, by name."""

    def environment(self) -> dict[str, str]:
        """Return what a client of this cluster needs in its environment."""
        return {"SLURM_CONF": str(self.config)}

    def jobs(self) -> list[str]:
        """Return ``id user state`` of each job in the queue."""
        return self.ask("squeue", "--noheader", "--format=%i %u %T").splitlines()

    def ask(self, *command: str) -> str:
        """Run a command that changes nothing, as `run` does, and again if slurmctld, being busy, hung up on it."""
        while True:
            try:
                return self.run(*command)
            except DaemonError as error:
                ended = error.__cause__
                if not isinstance(ended, subprocess.CalledProcessError) or ended.returncode != -signal.SIGPIPE:
                    raise

    def run(self, *command: str) -> str:
        """Run one of Slurm's commands as its administrator; return what it printed. Raise `DaemonError` on failure."""
        return run(*command, environment=self.environment())


@contextmanager
def private_slurm(folder: Path, nodes: Sequence[str] = ("node1",)) -> Iterator[Slurm]:
    """Run a cluster with its files in `folder`, which everyone has to be able to read. Needs root.

    Raise `DaemonError` on failure.
    """
    for name in ("state", *(f"spool-{node}" for node in nodes)):
        (folder / name).mkdir(parents=True)
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    config = folder / "slurm.conf"
    config.write_text(_config(folder, nodes))
    (folder / "job_submit.lua").write_text(_JOB_SUBMIT)
    cluster = Slurm(config)
    with ExitStack() as stack:

        def start(name: str, *argv: str | Path) -> Daemon:
            daemon = Daemon(name, [*_NAMED_LOCALHOST, *argv], folder / f"{name}.out", environment=cluster.environment())
            stack.callback(daemon.stop)
            return daemon

        munged = start("munged", "/usr/sbin/munged", "--foreground", "--force", *_munge_paths(folder, key))
        munged.wait_until(lambda: (folder / "munge.socket").exists(), _LIMIT, "make its socket")
        start("slurmctld", "/usr/sbin/slurmctld", "-D", "-i")
        for node in nodes:
            cluster.nodes[node] = start(f"slurmd-{node}", "/usr/sbin/slurmd", "-D", "-N", node)
        for node, daemon in cluster.nodes.items():
            daemon.wait_until(lambda node=node: _idle(cluster, node), _LIMIT, "become idle")  # type: ignore[misc]
        yield cluster


def _munge_paths(folder: Path, key: Path) -> list[str]:
    return [
        f"--key-file={key}",
        f"--socket={folder}/munge.socket",
        f"--pid-file={folder}/munge.pid",
        f"--log-file={folder}/munge.log",
        f"--seed-file={folder}/munge.seed",
    ]


def _config(folder: Path, nodes: Sequence[str]) -> str:
    controller, *ports = _free_ports(1 + len(nodes))
    cpus = len(os.sched_getaffinity(0))
    lines = [_NODE.format(name=name, port=port, cpus=cpus) for name, port in zip(nodes, ports, strict=True)]
    return "".join([*lines, _CONFIG.format(folder=folder, ctld_port=controller)])


def _idle(cluster: Slurm, node: str) -> bool:
    try:
        return "idle" in cluster.ask("sinfo", "--noheader", "--format=%t", f"--nodes={node}")
    except DaemonError:
        return False


def _free_ports(count: int) -> list[int]:
    """Return ports below those that the kernel gives to clients.

    One of those could be a client's before the daemon has it.
    """
    found: list[int] = []
    for port in random.sample(range(10000, 12000), k=200):
        with suppress(OSError):
            socket.create_server(("127.0.0.1", port)).close()
            found.append(port)
        if len(found) == count:
            return found
    raise DaemonError("Slurm: no free ports from 10000 to 11999")
