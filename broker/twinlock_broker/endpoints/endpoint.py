"""One user endpoint, as the broker knows it."""

import asyncio
from dataclasses import dataclass

from twinlock_broker.endpoints.output import Output
from twinlock_broker.endpoints.pipeline import StartRequest
from twinlock_broker.endpoints.registry import State


@dataclass(slots=True)
class Endpoint:
    """`request` is the newest; `waiting` says that it is newer than the process, `arrived` when it came.

    Times are time.monotonic(); `ended` is a wait status; `pid` is the spawner's word, 0 while there is none.
    An adopted endpoint was there before this broker: it has no output. `crashes` and `deaths` are bad ends in a row:
    of one that was up, and of one that never was; after one it may start `again` only then. `command` is the id of the
    command that it was started for. `restarted`: its
    predecessor may have done its tasks. `owes`: by its last word it has unfinished tasks, of which only its journal
    knows. `ending`: it has ended, and its last output is awaited.
    """

    id: str
    user: str
    state: State | None = None
    request: StartRequest | None = None
    waiting: bool = False
    arrived: float = 0.0
    started: float = 0.0
    pid: int = 0
    ended: int | None = None
    ending: bool = False
    output: Output | None = None
    crashes: int = 0
    deaths: int = 0
    again: float = 0.0
    restarted: bool = False
    owes: bool = False
    command: str = ""
    launch: asyncio.Task[None] | None = None
    notice: asyncio.Task[None] | None = None
    timer: asyncio.TimerHandle | None = None
