"""The life of a user endpoint as the broker sees it: states, events, and the table of what follows from what.

The broker can't see a user endpoint's heartbeats. What it knows is when the service asked for it, what the spawner
says, and when the endpoint closed the pipe that it was born with, which it does when it opens its own log.
"""

import os
import signal
from dataclasses import dataclass
from enum import Enum


class State(Enum):
    """The state of an endpoint. One that the broker doesn't know, or no longer knows, has none."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    RESTART_PENDING = "restart pending"
    BACKING_OFF = "failed"


class Event(Enum):
    """What happens to an endpoint. The six ends differ by what has to follow; `judge` tells which one it is."""

    COMMAND = "a start command"
    ACCOUNT_CHANGED = "a start command for another account than it runs under"
    ADOPTED = "the spawner runs it already"
    RESUMED = "an earlier broker was about to start it"
    SPAWNED = "the spawner started it"
    REFUSED = "the spawner refused it, or didn't answer"
    STOPPED = "it ended, and nobody waits for it"
    RESTART_WANTED = "it ended, and a newer command waits"
    CRASHED = "it ended badly, and a newer command waits"
    FAILED = "it ended badly"
    FAILED_TO_START = "it ended badly before it was up"
    UNFINISHED = "it ended, or couldn't be started, and its journal has unfinished tasks"
    STOP = "it is to be stopped"
    STILL_RUNNING = "the spawner still runs it"
    DUE = "its wait is over"


class Action(Enum):
    """What the broker does about an event."""

    NOTHING = "nothing"
    START = "start it with the newest command"
    REMEMBER = "keep the command, should it end soon"
    REFRESH = "give it the fresh credentials, and keep the command, should it end soon"
    REPLACE = "stop it, to start it under the other account"
    STOP = "stop it"
    STOP_AGAIN = "stop it again: what was sent to an absent spawner is lost"
    TELL = "tell the user, and forget it"
    BACK_OFF = "tell the user, and let a new start wait"
    FORGET = "forget it"
    DELAY = "wait, then start it"


TABLE: dict[tuple[State | None, Event], tuple[State | None, Action]] = {
    (None, Event.COMMAND): (State.STARTING, Action.START),
    (None, Event.ADOPTED): (State.RUNNING, Action.NOTHING),
    (State.STARTING, Event.COMMAND): (State.STARTING, Action.REMEMBER),
    (State.STARTING, Event.ACCOUNT_CHANGED): (State.STARTING, Action.REMEMBER),
    (State.STARTING, Event.RESUMED): (State.STARTING, Action.START),
    (State.STARTING, Event.SPAWNED): (State.RUNNING, Action.NOTHING),
    (State.STARTING, Event.STOP): (State.STOPPING, Action.STOP),
    (State.STARTING, Event.REFUSED): (None, Action.TELL),
    (State.STARTING, Event.UNFINISHED): (State.RESTART_PENDING, Action.DELAY),
    (State.RUNNING, Event.COMMAND): (State.RUNNING, Action.REFRESH),
    (State.RUNNING, Event.ACCOUNT_CHANGED): (State.STOPPING, Action.REPLACE),
    (State.RUNNING, Event.STOP): (State.STOPPING, Action.STOP),
    (State.RUNNING, Event.STOPPED): (None, Action.FORGET),
    (State.RUNNING, Event.RESTART_WANTED): (State.STARTING, Action.START),
    (State.RUNNING, Event.CRASHED): (State.RESTART_PENDING, Action.DELAY),
    (State.RUNNING, Event.UNFINISHED): (State.RESTART_PENDING, Action.DELAY),
    (State.RUNNING, Event.FAILED): (None, Action.TELL),
    (State.RUNNING, Event.FAILED_TO_START): (State.BACKING_OFF, Action.BACK_OFF),
    (State.STOPPING, Event.COMMAND): (State.STOPPING, Action.REMEMBER),
    (State.STOPPING, Event.ACCOUNT_CHANGED): (State.STOPPING, Action.REMEMBER),
    (State.STOPPING, Event.STOP): (State.STOPPING, Action.STOP),
    (State.STOPPING, Event.STILL_RUNNING): (State.STOPPING, Action.STOP_AGAIN),
    (State.STOPPING, Event.STOPPED): (None, Action.TELL),
    (State.STOPPING, Event.RESTART_WANTED): (State.STARTING, Action.START),
    (State.RESTART_PENDING, Event.COMMAND): (State.RESTART_PENDING, Action.REMEMBER),
    (State.RESTART_PENDING, Event.ACCOUNT_CHANGED): (State.RESTART_PENDING, Action.REMEMBER),
    (State.RESTART_PENDING, Event.STOP): (None, Action.TELL),
    (State.RESTART_PENDING, Event.DUE): (State.STARTING, Action.START),
    (State.BACKING_OFF, Event.COMMAND): (State.RESTART_PENDING, Action.DELAY),
    (State.BACKING_OFF, Event.ACCOUNT_CHANGED): (State.RESTART_PENDING, Action.DELAY),
    (State.BACKING_OFF, Event.STOP): (None, Action.FORGET),
    (State.BACKING_OFF, Event.DUE): (None, Action.FORGET),
}
"""What follows from an event in a state. A pair that isn't in it shouldn't occur: it is logged, and changes nothing."""

BACK_OFF = 120.0
"""Seconds for which an endpoint that failed to start is remembered: a start within them waits, longer each time."""

MAX_CRASHES = 5
"""Restarts after bad ends, one after the other, before the user is told."""

MAX_REVIVALS = 10
"""Restarts in a row of an endpoint whose journal has unfinished tasks, none of which runs for long: five minutes."""

STEADY = 600.0
"""Seconds that an endpoint has to run so that earlier bad ends no longer count."""

SETTLED_AFTER_LOG = 3.0
"""Seconds that an endpoint has to live on after it closed its first output. Its end closes the pipe too."""

SETTLED_AFTER = 30.0
"""Seconds after which an endpoint counts as started even with its pipe open: the agent's endpoint keeps it open."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How an endpoint ended."""

    status: int | None
    """Its wait status; None if it ended with the spawner."""
    settled: bool
    """It was up before."""

    @property
    def clean(self) -> bool:
        """Whether it ended as an idle endpoint does."""
        return self.status == 0 and self.settled

    def __str__(self) -> str:
        if self.status is None:
            return "was lost with the site's spawner"
        early = "" if self.settled else " before it was up"
        if os.WIFSIGNALED(self.status):
            number = os.WTERMSIG(self.status)
            return f"was killed by signal {number} ({signal.strsignal(number)}){early}"
        return f"ended with exit code {os.waitstatus_to_exitcode(self.status)}{early}"


def settled(now: float, started: float, log_opened: float | None) -> bool:
    """Return whether an endpoint that ends `now` was up. All times of time.monotonic(); `log_opened` as in `Output`."""
    return now - started >= SETTLED_AFTER or (log_opened is not None and now - log_opened >= SETTLED_AFTER_LOG)


def judge(
    ending: Ending, state: State, restart_wanted: bool, crashes: int, has_unfinished_tasks: bool = False
) -> Event:
    """Return which of the six ends it is.

    Args:
        ending: how the process ended.
        state: the endpoint's state until then.
        restart_wanted: a newer command came within the grace period, or at any time to a stopping endpoint.
        crashes: how many bad ends there were before, one after the other.
        has_unfinished_tasks: doesn't matter if the endpoint was stopped: its user was told that they are lost.
    """
    if state is State.STOPPING or (ending.clean and (restart_wanted or not has_unfinished_tasks)):
        return Event.RESTART_WANTED if restart_wanted else Event.STOPPED
    restartable = ending.settled or ending.status == 0
    if restart_wanted and restartable and crashes < MAX_CRASHES:
        return Event.CRASHED
    if has_unfinished_tasks and crashes < MAX_REVIVALS:
        return Event.UNFINISHED
    return Event.FAILED if ending.settled else Event.FAILED_TO_START


def restart_delay(bad_ends: int) -> float:
    """Return the seconds from the last of `bad_ends` bad ends in a row to the next start."""
    return float(min(60, 2 ** (bad_ends - 1)))
