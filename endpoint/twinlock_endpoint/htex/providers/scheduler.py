"""The commands of batch schedulers as Parsl's providers run them, with time limits and with their last words kept."""

import os
import re
import shlex
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

from parsl.providers import cluster_provider

TIMED_OUT = 124
"""The exit code of a command that was ended at its time limit, as timeout(1) has it."""

_LONGEST = 1000
_LAST_OUTPUT_S = 2.0

# What the commands of Slurm, PBS, LSF, Grid Engine and HTCondor print while their daemon is away, hangs or restarts.
_UNREACHABLE = re.compile(
    r"unable to contact|can(not|'t) connect|failed to connect|connect(ion)? (failure|refused|reset|timed out)"
    r"|communication (connection )?failure|no route to host|network is unreachable|transport endpoint is not connected"
    r"|socket timed out|zero bytes were transmitted|message (receive|send) failure|temporarily un(able|available)"
    r"|munge encode failed|standby mode|LSF is down|not responding|commlib error|unable to send message to qmaster"
    r"|can't find address of|did not answer within|failure in name resolution|unable to resolve|broken pipe"
    r"|communication time ?out|protocol authentication error|premature end of message|server (is )?shutting down"
    r"|configuration is not ready|could not connect|LIM is down|try (again )?later|failed to fetch ads"
    r"|q(sub|stat|select|del): end of file|failed receiving gdi request|shutdown mode"
    r"|establish control machine address|establish a configuration source"
    r"|presently disabled",
    re.IGNORECASE,
)


def run(command: str, limit_s: float | None = None) -> tuple[int, str, str]:
    """Run a shell command line; return its exit code, output and errors.

    It takes the place of Parsl's `execute_wait`, which leaves a command that outlives its limit running and raises.
    """
    process = subprocess.Popen(  # noqa: S602 - Parsl's providers build command lines for a shell
        command, shell=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, process_group=0
    )
    try:
        output, errors = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        _kill(process)
        return TIMED_OUT, "", f"{_program(command)} did not answer within {limit_s:g} s"
    return process.returncode, output.decode(errors="replace"), errors.decode(errors="replace")


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """Kill a command with all that it started, which may have its output open."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=_LAST_OUTPUT_S)


def _program(command: str) -> str:
    return command.split(" ", 1)[0]


def failure(command: str, code: int, printed: str) -> str:
    """Return how a command failed, with the last that it printed."""
    said = printed[-_LONGEST:]
    return said if code == TIMED_OUT else f"{_program(command)} ended with exit code {code}: {said}"


def is_unreachable(words: str) -> bool:
    """Return whether these words of a scheduler's command mean that the scheduler can't be reached now."""
    return _UNREACHABLE.search(words) is not None


def use_time_limits() -> None:
    """Have the providers that are made from now on run their commands by `run`."""
    cluster_provider.execute_wait = run


class LastWords:
    """The last output of a command that failed, which the providers for PBS Pro and LSF don't pass on.

    Commands name a script in `folder`, which gets the quotes that its path needs.
    """

    def __init__(self, folder: str) -> None:
        self.text = ""
        self._folder = str(Path(folder).absolute())

    def listen(self) -> None:
        """Hear what Parsl's providers run from now on."""
        cluster_provider.execute_wait = self._heard

    def _heard(self, command: str, *arguments: Any) -> tuple[int, str, str]:
        command = command.replace(self._folder, shlex.quote(self._folder))
        code, output, errors = run(command, *arguments)
        if code:
            self.text = failure(command, code, errors.strip() or output.strip())
        return code, output, errors
