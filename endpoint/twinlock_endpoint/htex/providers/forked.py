"""Interchange and local blocks as forks of the zygote, if that makes no difference but in time and memory."""

import os
import shlex
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import parsl.providers
from parsl.executors.high_throughput.executor import DEFAULT_LAUNCH_CMD, HighThroughputExecutor
from parsl.jobs.states import JobState, JobStatus
from parsl.launchers import SimpleLauncher, SingleNodeLauncher

from twinlock_endpoint.htex.programs import PoolProgram
from twinlock_endpoint.zygote.client import Child, Zygote

_POOL = "process_worker_pool.py"
_AHEAD = 16  # tasks that the only pool has at hand; with more than one they might wait there while another is idle


class LocalProvider(parsl.providers.LocalProvider):  # type: ignore[misc]  # Parsl ships no types
    """Parsl's LocalProvider, whose blocks are forks of the zygote instead of shells that start a pool."""

    def __init__(self, original: parsl.providers.LocalProvider, zygote: Zygote, dispatched: Path) -> None:
        """Take the place of the original provider. `dispatched` is where the pools note what they send to workers."""
        self.__dict__.update(original.__dict__)
        self._zygote = zygote
        self._dispatched = dispatched

    def submit(self, command: str, tasks_per_node: int, job_name: str = "parsl.localprovider") -> str:
        """Fork a pool from the zygote, without Parsl's script for a block."""
        name = f"{job_name}.{time.time()}"
        script = Path(self.script_dir, name).absolute()  # there is none, but its output has the usual place
        words = shlex.split(command)
        block = next(word.partition("=")[2] for word in words if word.startswith("--block_id="))
        child = self._zygote.start(
            PoolProgram(
                title=f"parsl: HTEX pool of block {block}",
                arguments=words[1:],
                dispatched=self._dispatched,
                ahead=_AHEAD if self.max_blocks <= 1 else 0,
                environment={"JOBNAME": name, "CORES": str(os.cpu_count())},  # as Parsl's script and launcher do
                stdout=f"{script}.out",
                stderr=f"{script}.err",
            )
        )
        job = str(child.pid)
        self.resources[job] = {
            "job_id": job,
            "status": JobStatus(JobState.RUNNING),
            "remote_pid": child.pid,
            "script_path": script,
            "child": child,
        }
        return job

    def status(self, job_ids: list[str]) -> list[JobStatus]:
        """Return the states of these jobs, as the zygote tells how they ended."""
        for job in self.resources.values():
            if not job["status"].terminal:
                job["status"] = _status(job, job["child"])
        return [self.resources[job]["status"] for job in job_ids]

    def cancel(self, job_ids: list[str]) -> list[bool]:
        """Send SIGTERM to the process groups of these jobs."""
        for name in job_ids:
            self.resources[name]["cancelled"] = True
            self.resources[name]["child"].send_signal(signal.SIGTERM)
        return [True for _ in job_ids]

    def groups(self) -> list[int]:
        """Return the process groups of the blocks that aren't known to have ended; a pool's has the pool's pid."""
        return [int(name) for name, job in self.resources.items() if not job["status"].terminal]


def _status(job: dict[str, Any], child: Child) -> JobStatus:
    code = child.poll()
    if code is None:
        return JobStatus(JobState.RUNNING)
    if "cancelled" in job:
        return JobStatus(JobState.CANCELLED)
    state = JobState.FAILED if code else JobState.COMPLETED
    outputs = {"stdout_path": f"{job['script_path']}.out", "stderr_path": f"{job['script_path']}.err"}
    return JobStatus(state, exit_code=code, **outputs)


def possible(parsl: HighThroughputExecutor) -> bool:
    """Return whether forks can be the blocks: this host's plain worker pools of this very Python, without a shell."""
    provider = parsl.provider
    pool = shutil.which(_POOL)
    return (
        type(provider).__name__ == "LocalProvider"
        and type(provider.launcher) in (SingleNodeLauncher, SimpleLauncher)
        and provider.nodes_per_block == 1
        and not provider.worker_init.strip()
        and parsl.launch_cmd == DEFAULT_LAUNCH_CMD
        and not parsl.enable_mpi_mode
        and pool is not None
        and Path(pool).parent == Path(sys.executable).parent
    )
