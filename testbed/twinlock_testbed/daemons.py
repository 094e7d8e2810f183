"""Programs that run beside the testbed: started in sessions of their own, watched until ready, ended by pid."""

import contextlib
import os
import pwd
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import psutil

_T = TypeVar("_T")

START_LIMIT = 180.0
"""Seconds for any program here to be ready, on a machine that is busy with tests."""

_POLL = 0.05
_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}


class DaemonError(Exception):
    """A program didn't start or didn't become ready; the text ends with what it printed."""


def as_user(user: str | None) -> list[str]:
    """Return the words before a command that make it run as `user`, with that user's groups and no capability."""
    if user is None:
        return []
    gid = pwd.getpwnam(user).pw_gid
    return ["setpriv", f"--reuid={user}", f"--regid={gid}", "--init-groups", "--inh-caps=-all"]


class Daemon:
    """One program. Its output goes to `log`. The terminal's Ctrl-C doesn't reach it: the testbed stops it in order."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str | Path],
        log: Path,
        *,
        user: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        """For people."""
        self.log = log
        """The file that its output goes to."""
        self._skip = log.stat().st_size if log.exists() else 0
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [*as_user(user), *map(str, argv)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=_ENVIRONMENT | dict(environment or {}),
                cwd="/",
                start_new_session=True,
            )
        self.pid = self._process.pid

    def alive(self) -> bool:
        """Return whether the process hasn't ended."""
        return self._process.poll() is None

    def output(self) -> str:
        """Return what it has printed since it was started."""
        return self.log.read_bytes()[self._skip :].decode(errors="replace")

    def wait_for_line(self, text: str, timeout: float) -> str:
        """Wait for a whole line of its output that has `text` in it, at most `timeout` seconds, and return it.

        Raise `DaemonError` if none comes.
        """

        def found() -> str | None:
            lines = self.output().splitlines(keepends=True)
            return next((line.strip() for line in lines if text in line and line.endswith("\n")), None)

        return self.wait_until(found, timeout, f"print {text!r}")

    def wait_until(self, ready: Callable[[], _T | None], timeout: float, what: str) -> _T:
        """Call `ready` again and again for `timeout` seconds, and return its first true value.

        Raise `DaemonError` if there is none, or the program ends; `what` says what it was to do.
        """
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if value := ready():
                return value
            if not self.alive():
                raise DaemonError(f"{self.name} ended with {self._process.returncode}:\n{self.output()[-2000:]}")
            time.sleep(_POLL)
        raise DaemonError(f"{self.name} did not {what} in {timeout:.0f} s:\n{self.output()[-2000:]}")

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def stop(self, timeout: float = 60.0) -> int:
        """Send TERM, and after `timeout` seconds KILL. Return the exit code, which is negative for a signal."""
        if self.alive():
            self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int:
        """Send KILL to it and its process group, and return the exit code."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        return self._process.wait()


def stop_stragglers() -> None:
    """End what an interruption left between the start of a program and the moment when somebody was to end it."""
    children = psutil.Process().children()
    for child in children:
        child.terminate()
    _, stubborn = psutil.wait_procs(children, timeout=60)
    for child in stubborn:
        child.kill()


def run(
    *argv: str | Path, timeout: float = 120.0, user: str | None = None, environment: Mapping[str, str] | None = None
) -> str:
    """Return the output of a command that has to succeed within `timeout` seconds. Raise `DaemonError` on failure."""
    command = [*as_user(user), *map(str, argv)]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            env=_ENVIRONMENT | dict(environment or {}),
            cwd="/",
            check=True,
        )
    except subprocess.CalledProcessError as error:
        raise DaemonError(f"{command[0]}: exit {error.returncode}: {error.stderr.strip()}") from error
    except subprocess.TimeoutExpired as error:
        raise DaemonError(f"{command[0]}: no end in {timeout:.0f} s") from error
    return done.stdout
