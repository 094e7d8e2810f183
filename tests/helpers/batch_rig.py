"""Batch systems that can't be had here: configurations for them, and stand-ins for their commands."""

import os
import shutil
import signal
from contextlib import suppress
from pathlib import Path

import psutil
from endpoint_rig import NOBODY

STANDIN = Path(__file__).with_name("batch_standin.py")
COMMANDS = (
    *("qsub", "qstat", "qselect", "qdel", "qacct"),
    *("bsub", "bjobs", "bkill"),
    *("condor_submit", "condor_q", "condor_rm", "condor_history"),
)
TEMPLATE = """
engine:
  type: GlobusComputeEngine
  max_workers_per_node: 1
  address: 127.0.0.1
  job_status_kwargs: {{strategy_period: 1}}
  provider: {{type: {provider}, init_blocks: 1, max_blocks: 1, {options}}}
"""
PBS = TEMPLATE.format(
    provider="PBSProProvider", options='account: phys, queue: debug, cpus_per_node: 2, walltime: "00:20:00"'
)
LSF = TEMPLATE.format(
    provider="LSFProvider", options='project: phys, queue: batch, walltime: "00:20:00", bsub_redirection: true'
)
CONDOR = TEMPLATE.format(provider="CondorProvider", options="project: phys, cores_per_slot: 2")
TORQUE = TEMPLATE.format(
    provider="TorqueProvider",
    options='account: phys, queue: debug, walltime: "00:20:00", launcher: {type: SingleNodeLauncher}',
)
GRID_ENGINE = TEMPLATE.format(provider="GridEngineProvider", options='queue: all.q, walltime: "00:20:00"')
BATCH_SYSTEMS = {"PBS Pro": PBS, "Torque": TORQUE, "Grid Engine": GRID_ENGINE, "LSF": LSF, "HTCondor": CONDOR}


def put_commands(folder: Path) -> None:
    """Put the stand-ins into this folder: their commands in bin, what they do in state."""
    folder.chmod(0o755)
    (folder / "bin").mkdir()
    for name in COMMANDS:
        shutil.copy(STANDIN, folder / "bin" / name)
    (folder / "state").mkdir()
    shutil.chown(folder / "state", NOBODY, NOBODY)


def jobs(batch: Path) -> list[int]:
    """The processes that lead the sessions of the jobs that haven't ended."""
    leaders = [int(path.read_text()) for path in (batch / "state").glob("*.pid")]
    return [leader for leader in leaders if _is_job(leader, batch / "state")]


def _is_job(pid: int, state: Path) -> bool:
    """The number of one that has ended may be another process's by now."""
    with suppress(psutil.Error):
        variables = psutil.Process(pid).environ()
        return "STANDIN_JOB" in variables and variables.get("STANDIN") == str(state)
    return False


def end_jobs(batch: Path) -> None:
    """End those that a test has left. An endpoint that still runs can't submit others in their place."""
    shutil.rmtree(batch / "bin")
    for job in jobs(batch):
        with suppress(ProcessLookupError):
            os.killpg(job, signal.SIGKILL)


def environment(batch: Path) -> dict[str, str]:
    """What leads an endpoint to the stand-ins."""
    return {"PATH": f"{batch / 'bin'}:/usr/local/bin:/usr/bin:/bin", "STANDIN": str(batch / "state")}
