"""Users' scripts: programs with the official SDK, run as an account without rights, away from the site's files."""

import json
import shutil
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from twinlock_testbed.daemons import as_user
from twinlock_testbed.service import Person

_JOB = Path(__file__).with_name("job.py")


@dataclass(frozen=True)
class Outcome:
    """How one task ended."""

    person: Person
    config: Mapping[str, Any]
    """The `user_endpoint_config` that the task was submitted with."""
    result: Mapping[str, Any] | None
    """What the function returned; None after an error."""
    error: str | None
    """The text of the future's exception; None if there is a result."""


def start(argv: Sequence[str | Path], errors: int | IO[bytes]) -> "subprocess.Popen[str]":
    """Start a user's program with pipes for its input and output, and nothing of our environment.

    `errors` is where its standard error goes, as for `Popen`.
    """
    return subprocess.Popen(
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        cwd="/",
        env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": "/nonexistent"},
        start_new_session=True,
    )


class Program:
    """A user's program at work: it reads its order from standard input, and prints a JSON line for each task."""

    def __init__(self, person: Person, argv: Sequence[str | Path], order: Mapping[str, Any], expected: int) -> None:
        """Start it. It has to print `expected` lines, and then to end with 0."""
        self.person = person
        self._expected = expected
        self._process = start(argv, subprocess.PIPE)
        assert self._process.stdin is not None
        with suppress(BrokenPipeError), self._process.stdin as stdin:  # why it ended shows in lines()
            json.dump(order, stdin)
        self._process.stdin = None  # communicate() would write to it

    def lines(self, timeout: float) -> list[dict[str, Any]]:
        """Return what it printed.

        Raise `subprocess.TimeoutExpired` if it hasn't ended within `timeout` seconds.
        """
        try:
            output, errors = self._process.communicate(timeout=timeout)
        finally:
            self.stop()
        lines: list[dict[str, Any]] = [json.loads(line) for line in output.splitlines()]
        if self._process.returncode or len(lines) != self._expected:
            ended = f"ended with {self._process.returncode} after {len(lines)} of {self._expected} outcomes"
            raise RuntimeError(f"the script of {self.person.username} {ended}:\n{errors[-2000:]}")
        return lines

    def stop(self) -> None:
        """End the program, should it still run."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


class Script(Program):
    """``job.py`` of one person at work: each configuration's `tasks` submitted at once."""

    def __init__(
        self,
        prefix: Path,
        person: Person,
        endpoint_id: str,
        configs: Sequence[Mapping[str, Any]],
        *,
        folder: Path,
        tasks: int = 1,
        seconds: float = 0.0,
        as_source: bool = False,
        user: str | None = None,
        within: Sequence[str] = (),
    ) -> None:
        """Each task takes so many `seconds`. `within` are words before the command, such as nsenter's.

        With `as_source` functions are sent as source code, for workers whose Python isn't that of `prefix`.
        """
        # Where every user may read it; a copy for each, since another's might be read just as it is written anew.
        script = Path(shutil.copy(_JOB, folder / f"job-{uuid.uuid4()}.py"))
        script.chmod(0o644)
        order = {"endpoint": endpoint_id, "token": person.token, "configs": list(configs), "tasks": tasks}
        order |= {"seconds": seconds, "as_source": as_source}
        argv: list[str | Path] = [*within, *as_user(user), prefix / "bin/python", "-I", script]
        super().__init__(person, argv, order, len(configs) * tasks)

    def outcomes(self, timeout: float) -> list[Outcome]:
        """Return every task's outcome.

        Raise `subprocess.TimeoutExpired` if a future waits for longer than `timeout`.
        """
        return [
            Outcome(self.person, line["config"], line.get("result"), line.get("error")) for line in self.lines(timeout)
        ]
