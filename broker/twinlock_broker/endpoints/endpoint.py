"""One user endpoint, as the broker knows it."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from twinlock_broker.config.policies import Mode
from twinlock_broker.endpoints.output import Output
from twinlock_broker.endpoints.pipeline import StartRequest
from twinlock_broker.endpoints.registry import State
from twinlock_broker.endpoints.task_times import Histogram


@dataclass(frozen=True, slots=True)
class Signed:
    """Who has signed for an endpoint in verified mode, by its own word: it is a process of the account."""

    key: str
    """The fingerprint of the person's key."""
    delegation: str
    """The id of the delegation with which it began."""


class Stopper(StrEnum):
    """Who stopped an endpoint."""

    ADMINISTRATOR = "the administrator"
    USER = "its user"


@dataclass(slots=True)
class Endpoint:
    """What is known of a user endpoint. Times are of time.monotonic()."""

    id: str
    """Its uuid."""
    user: str
    """The account that it runs under."""
    state: State | None = None
    """None before its first event, and after its last one."""
    request: StartRequest | None = None
    """The newest request; None for an adopted endpoint, which was there before this broker."""
    has_newer_request: bool = False
    """`request` came after the start of the process."""
    requested_at: float = 0.0
    """When `request` came."""
    started: float = 0.0
    """When its process was started, or adopted."""
    pid: int = 0
    """By the spawner's word; 0 while there is no process."""
    connected_pid: int = 0
    """`pid` as of its last connection to this broker; 0 before the first one."""
    task_times: Mapping[str, Histogram] | None = None
    """What was counted of what that process tells of its tasks; None if an earlier broker may have counted some."""
    wait_status: int | None = None
    """That of a process which ended before the spawner's answer to its start was handled."""
    ending: bool = False
    """It has ended, and its last output is awaited."""
    output: Output | None = None
    """What it prints at its start; None for an adopted endpoint."""
    crashes: int = 0
    """Bad ends in a row of an endpoint that was up."""
    failed_starts: int = 0
    """Bad ends in a row of an endpoint that never was up."""
    restart_at: float = 0.0
    """When it may start again after such an end."""
    restarted: bool = False
    """The process before this one may have done its tasks."""
    has_unfinished_tasks: bool = False
    """As it said last, its journal has unfinished tasks."""
    stopped_by: Stopper | None = None
    """Who stopped it last; None if nobody did."""
    mode: Mode | None = None
    """The mode of its process, by the spawner's policy; None if that wasn't known when it was started."""
    signed: Signed | None = None
    """What its process said first about that; None if it hasn't yet."""
    command: str = ""
    """The id of the command that it was started for."""
    launch: asyncio.Task[None] | None = None
    """The start under way, or the last one; None if this broker made none."""
    notice: asyncio.Task[None] | None = None
    """The sending of the last notice to its user."""
    timer: asyncio.TimerHandle | None = None
    """What ends its wait for a start, or for being forgotten."""
