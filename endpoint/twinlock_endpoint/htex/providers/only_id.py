"""The id in what qsub(1) printed. Sites' hooks print more, and Parsl's providers take any line for an id."""

import re


class OnlyId:
    """A mixin that goes in front of one of Parsl's provider classes, and leaves only the id of what qsub(1) printed."""

    id_form: re.Pattern[str]
    """What an id looks like; its first group is the id."""

    def execute_wait(self, cmd: str, timeout: float | None = None) -> tuple[int, str, str]:
        """Run a command of the scheduler's, as Parsl does it; of what qsub printed only the id is left."""
        code, output, errors = super().execute_wait(cmd, timeout)  # type: ignore[misc]
        if code == 0 and cmd.startswith("qsub "):
            found = (self.id_form.fullmatch(line.strip()) for line in output.splitlines())
            output = next((match[1] for match in found if match), "")
        return code, output, errors
