"""A private Slurm on loopback: munged, slurmctld and slurmd of one node, with files and ports of their own."""

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from twinlock_testbed.daemons import Daemon, DaemonError, run

_CONFIG = """\
ClusterName=testbed
SlurmctldHost=localhost(127.0.0.1)
SlurmUser=root
SlurmctldPort={ctld_port}
SlurmdPort={slurmd_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
ReturnToService=2
MpiDefault=none
MailProg=/bin/true
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
EnforcePartLimits=ALL
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
NodeName=localhost NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=2000 State=UNKNOWN
# FORCE: Parsl asks for whole nodes, and there is one node for the blocks of several endpoints.
PartitionName=main Nodes=localhost Default=YES MaxTime=01:00:00 State=UP OverSubscribe=FORCE:8
"""

# The daemons bind what the host's own name resolves to, and not every host can resolve its name (unshare(1)).
_NAMED_LOCALHOST = ["unshare", "--uts", "sh", "-c", 'hostname localhost && exec "$@"', "sh"]


class Slurm:
    """The cluster while it runs."""

    def __init__(self, config: Path) -> None:
        self.config = config

    def environment(self) -> dict[str, str]:
        """What a client of this cluster needs in its environment."""
        return {"SLURM_CONF": str(self.config)}

    def jobs(self) -> list[str]:
        """``id user state`` of each job in the queue."""
        return run("squeue", "--noheader", "--format=%i %u %T", environment=self.environment()).splitlines()


@contextmanager
def private_slurm(folder: Path) -> Iterator[Slurm]:
    """A cluster with its files in `folder`, which has to be readable by everyone. Needs root. Raises `DaemonError`."""
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    config = folder / "slurm.conf"
    config.write_text(_config(folder))
    with ExitStack() as stack:

        def start(name: str, *argv: str | Path) -> Daemon:
            daemon = Daemon(
                name, [*_NAMED_LOCALHOST, *argv], folder / f"{name}.out", environment={"SLURM_CONF": str(config)}
            )
            stack.callback(daemon.stop)
            return daemon

        munged = start("munged", "/usr/sbin/munged", "--foreground", "--force", *_munge_paths(folder, key))
        munged.wait_until(lambda: (folder / "munge.socket").exists(), 10, "make its socket")
        start("slurmctld", "/usr/sbin/slurmctld", "-D", "-i")
        node = start("slurmd", "/usr/sbin/slurmd", "-D")
        cluster = Slurm(config)
        node.wait_until(lambda: _idle(cluster), 30, "become idle")
        yield cluster


def _munge_paths(folder: Path, key: Path) -> list[str]:
    return [
        f"--key-file={key}",
        f"--socket={folder}/munge.socket",
        f"--pid-file={folder}/munge.pid",
        f"--log-file={folder}/munge.log",
        f"--seed-file={folder}/munge.seed",
    ]


def _config(folder: Path) -> str:
    ports = _free_ports(2)
    return _CONFIG.format(folder=folder, ctld_port=ports[0], slurmd_port=ports[1], cpus=len(os.sched_getaffinity(0)))


def _idle(cluster: Slurm) -> bool:
    try:
        return "idle" in run("sinfo", "--noheader", "--format=%t", environment=cluster.environment())
    except DaemonError:
        return False


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [listener.getsockname()[1] for listener in sockets]
