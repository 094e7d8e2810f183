"""Providers whose jobs can be found by name: a submission may seem to fail, or be cut off, though the job was taken."""

import shlex
from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from parsl.jobs.states import JobState, JobStatus

from twinlock_endpoint.htex.providers.marked import MarkedJobs


class NamedJobs(MarkedJobs):
    """A mixin that goes in front of one of Parsl's provider classes, and makes the names of jobs known."""

    script_dir: str
    """Parsl's own: the folder of the jobs' scripts."""
    resources: dict[str, dict[str, Any]]
    """Parsl's own: the jobs by id."""
    execute_wait: Callable[..., tuple[int, str, str]]
    """Parsl's own: runs a shell command; exit code, output, errors."""
    submitting: Callable[[Any, str], None] | None = None
    """Called with this provider and a job's name before the job is submitted. The name is unique."""

    @abstractmethod
    def find(self, names: Sequence[str]) -> dict[str, str] | None:
        """Return those jobs with these names that haven't ended, by name; None if the scheduler doesn't answer."""

    def adopt(self, job: str, name: str) -> None:
        """Count a job among ours that the scheduler took, though its submission failed or was ended at its limit."""
        script = Path(self.script_dir, name).absolute()
        paths = {"job_stdout_path": f"{script}.stdout", "job_stderr_path": f"{script}.stderr"}
        self.resources[job] = {"job_id": job, "status": JobStatus(JobState.PENDING), **paths}

    def _write_submit_script(self, template: str, script_filename: str, job_name: str, configs: dict[str, Any]) -> None:
        super()._write_submit_script(template, script_filename, job_name, configs)
        if self.submitting is not None:
            self.submitting(self, job_name)


class FoundOneByOne(NamedJobs):
    """A mixin for schedulers whose command answers for one name at a time."""

    def find(self, names: Sequence[str]) -> dict[str, str] | None:
        """Ask for one name after the other."""
        found: dict[str, str] = {}
        for name in names:
            jobs = self._jobs_of(*self.execute_wait(self._find_command(shlex.quote(name))))
            if jobs is None:
                return None
            if jobs:
                found[name] = jobs[0]
        return found

    @abstractmethod
    def _find_command(self, name: str) -> str:
        """Return the shell command that asks for the jobs of this name that haven't ended."""

    @abstractmethod
    def _jobs_of(self, code: int, output: str, errors: str) -> list[str] | None:
        """Return the ids in the command's answer; None if it isn't one."""
