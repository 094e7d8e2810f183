"""Child processes that must not outlive the service: how they are ended, also after the service itself was killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import signal
from dataclasses import dataclass
from pathlib import Path

from twinlock_common import proc_stat


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A process, identified for certain: its pid alone may belong to another one by now."""

    pid: int
    started: int
    """When it started, in clock ticks after boot (proc_pid_stat(5))."""


class ChildProcess:
    """A child, and how to find it again."""

    def __init__(self, child: asyncio.subprocess.Process) -> None:
        self._child = child
        self.identity = ProcessIdentity(child.pid, _start_time(child.pid) or 0)

    @property
    def ended(self) -> bool:
        """Whether it is over."""
        return self._child.returncode is not None

    async def wait(self) -> int:
        """Wait until the child has ended, and return its exit status."""
        return await self._child.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if the child is still there."""
        with contextlib.suppress(ProcessLookupError):
            self._child.send_signal(number)


async def stop(process: ChildProcess, grace: float) -> None:
    """End a child: send SIGTERM, and SIGKILL after `grace` seconds."""
    process.signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(grace):
            await process.wait()
    except TimeoutError:
        process.signal(signal.SIGKILL)
        await process.wait()


def end_stale(file: Path, grace: float) -> None:
    """End the processes that a service noted in `file` before it was killed, and wait until they are gone."""
    for identity in _noted(file):
        _end(identity, grace)
    file.unlink(missing_ok=True)


def _noted(file: Path) -> list[ProcessIdentity]:
    try:
        return [ProcessIdentity(**each) for each in json.loads(file.read_text())]
    except (FileNotFoundError, ValueError):
        # Of a damaged note nothing is known; processes that are there all the same still have their ports.
        return []


def _end(identity: ProcessIdentity, grace: float) -> None:
    try:
        pidfd = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return
    try:
        # Compared after the pidfd was opened: from here on nobody else can be meant.
        if _start_time(identity.pid) == identity.started:
            _signal_and_wait(pidfd, signal.SIGTERM, grace) or _signal_and_wait(pidfd, signal.SIGKILL, grace)
    finally:
        os.close(pidfd)


def _signal_and_wait(pidfd: int, number: signal.Signals, seconds: float) -> bool:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, number)
    return bool(select.select([pidfd], [], [], seconds)[0])


def _start_time(pid: int) -> int | None:
    """Return when the process was started, or None if there is no such process or it is a zombie."""
    if proc_stat.field(pid, proc_stat.STATE) == "Z":
        return None
    started = proc_stat.field(pid, proc_stat.STARTED)
    return None if started is None else int(started)
