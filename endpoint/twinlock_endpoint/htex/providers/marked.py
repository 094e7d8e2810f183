"""Providers whose jobs say where they come from: in their names, and in a comment if the scheduler has comments."""

from typing import Any

from twinlock_endpoint.job_origin import JobOrigin

_LONGEST_NAME = 200  # PBS takes 230 characters, and Parsl adds a time and a word to what it is given


class MarkedJobs:
    """A mixin that goes in front of one of Parsl's provider classes, and marks its jobs with their origin."""

    origin: JobOrigin | None = None
    """Where jobs come from; None if they don't say it."""
    comment_line = ""
    """The line of a job's script with a comment, with a field for it; empty if the scheduler has none."""
    comment_word = ""
    """What the template's own lines have, in small letters, if they set that comment themselves."""
    scheduler_options: str
    """Parsl's own: lines of the template for the job's script."""

    def submit(self, command: str, tasks_per_node: int, job_name: str = "parsl") -> Any:
        """Submit as Parsl does, under a name that begins with the origin.

        Return the job's id; some of Parsl's classes return None for a refused job.
        """
        if self.origin is not None:
            mark = self.origin.short if self.comment_line else self.origin.name
            job_name = f"{mark}.{job_name}"[:_LONGEST_NAME]
        return super().submit(command, tasks_per_node, job_name)  # type: ignore[misc]

    def _write_submit_script(self, template: str, script_filename: str, job_name: str, configs: dict[str, Any]) -> None:
        """Put the comment before the template's own lines, unless they have one."""
        if self.origin is not None and self.comment_line and not self._has_own_comment():
            line = self.comment_line.format(self.origin.comment)
            configs = {**configs, "scheduler_options": f"{line}\n{configs['scheduler_options']}"}
        super()._write_submit_script(template, script_filename, job_name, configs)  # type: ignore[misc]

    def _has_own_comment(self) -> bool:
        return self.comment_word in self.scheduler_options.lower()
