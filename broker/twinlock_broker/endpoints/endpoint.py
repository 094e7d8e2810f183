"""One user endpoint, as the broker knows it."""

import asyncio
from dataclasses import dataclass

from twinlock_broker.endpoints.output import Output
from twinlock_broker.endpoints.pipeline import StartRequest
from twinlock_broker.endpoints.registry import State


@dataclass(slots=True)
class Endpoint:
    """What is known of it. Times are of time.monotonic()."""

    id: str
    user: str
    """The account that it runs under."""
    state: State | None = None
    request: StartRequest | None = None
    """The newest; None for an adopted endpoint, which was there before this broker."""
    has_newer_request: bool = False
    """`request` came after the start of the process."""
    requested_at: float = 0.0
    """When `request` came."""
    started: float = 0.0
    pid: int = 0
    """By the spawner's word; 0 while there is no process."""
    wait_status: int | None = None
    """That of a process which ended before the spawner's answer to its start was looked at."""
    ending: bool = False
    """It has ended, and its last output is awaited."""
    output: Output | None = None
    """None for an adopted endpoint."""
    crashes: int = 0
    """Bad ends in a row of an endpoint that was up."""
    failed_starts: int = 0
    """Bad ends in a row of an endpoint that never was up."""
    restart_at: float = 0.0
    """When it may start again after such an end."""
    restarted: bool = False
    """Its predecessor may have done its tasks."""
    has_unfinished_tasks: bool = False
    """By its last word, its journal has tasks without a result."""
    command: str = ""
    """The id of the command that it was started for."""
    launch: asyncio.Task[None] | None = None
    notice: asyncio.Task[None] | None = None
    timer: asyncio.TimerHandle | None = None
