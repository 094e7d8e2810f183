"""Parsl's provider for this host, changed: the path of the endpoint's folder may be any."""

import subprocess
import time
from pathlib import Path

import parsl.providers
from parsl.jobs.states import JobState, JobStatus
from parsl.providers.errors import SubmitException

# Puts the script into the background; what it prints is its process id. Parsl reads the files: "-" stands for an exit
# code that isn't known yet.
_START = 'echo - >"$0.ec" && { { bash "$0" >"$0.out" 2>"$0.err"; echo $? >"$0.ec"; } >/dev/null 2>&1 & echo $!; }'


class LocalProvider(parsl.providers.LocalProvider):  # type: ignore[misc]  # Parsl ships no types
    """The provider, with the arguments of Parsl's class."""

    def submit(self, command: str, tasks_per_node: int, job_name: str = "parsl.localprovider") -> str:
        """Submit as Parsl does, but with the script's path as an argument instead of a part of a command line."""
        name = f"{job_name}.{time.time()}"
        script = Path(self.script_dir, f"{name}.sh").absolute()
        launched = self.launcher(command, tasks_per_node, self.nodes_per_block, self.script_dir)
        self._write_submit_script(f"{self.worker_init}\nexport JOBNAME={name}\n{launched}", str(script))
        started = subprocess.run(
            ["/bin/bash", "-c", _START, str(script)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=self.cmd_timeout,
            process_group=0,  # the block's own, which is signalled as a whole
        )
        if started.returncode:
            raise SubmitException(name, "The block's script can't be started", started.stdout, started.stderr)
        job = started.stdout.strip()
        self.resources[job] = {
            "job_id": job,
            "status": JobStatus(JobState.RUNNING),
            "remote_pid": int(job),
            "script_path": str(script),
        }
        return job
