"""What a batch scheduler says when it refuses something: Parsl's providers for PBS Pro and LSF keep that back."""

from typing import Any

from parsl.providers import cluster_provider

_LONGEST = 1000
_run = cluster_provider.execute_wait


class Words:
    """The last command of a scheduler that failed, and what it printed."""

    def __init__(self) -> None:
        self.text = ""

    def listen(self) -> None:
        """Hear what Parsl's providers run from now on."""
        cluster_provider.execute_wait = self._heard

    def _heard(self, command: str, *arguments: Any) -> tuple[int, str, str]:
        code, output, errors = _run(command, *arguments)
        if code:
            program = command.split(" ", 1)[0]
            self.text = f"{program} ended with exit code {code}: {(errors.strip() or output.strip())[-_LONGEST:]}"
        return code, output, errors
