"""The life of an endpoint: its states, the events, and the table of what follows from what."""

from enum import Enum


class State(Enum):
    """The states of an endpoint."""

    STARTING = "its engine starts, and no task is taken yet"
    SERVING = "tasks are run"
    FAILING = "its engine broke: each task gets the reason, also those that still come, until no more do"
    STOPPING = "no task is taken any more; results go out"


class Event(Enum):
    """The events in an endpoint's life."""

    ENGINE_STARTED = "its engine is ready for tasks"
    ENGINE_FAILED = "its engine can't run tasks any more"
    QUIET = "all tasks have results, and the queue has sent no other for a while"
    END = "a signal, its manager, its idleness or an outage ends it"


class Action(Enum):
    """The actions that an endpoint takes on an event."""

    TAKE_TASKS = "let adopted tasks go on, and take those of the queue"
    FAIL_TASKS = "give all tasks the reason as their result"
    STOP = "shut down"


TABLE: dict[tuple[State, Event], tuple[State, Action]] = {
    (State.STARTING, Event.ENGINE_STARTED): (State.SERVING, Action.TAKE_TASKS),
    (State.STARTING, Event.ENGINE_FAILED): (State.FAILING, Action.FAIL_TASKS),
    (State.STARTING, Event.END): (State.STOPPING, Action.STOP),
    (State.SERVING, Event.ENGINE_FAILED): (State.FAILING, Action.FAIL_TASKS),
    (State.SERVING, Event.END): (State.STOPPING, Action.STOP),
    (State.FAILING, Event.ENGINE_STARTED): (State.FAILING, Action.TAKE_TASKS),
    (State.FAILING, Event.QUIET): (State.STOPPING, Action.STOP),
    (State.FAILING, Event.END): (State.STOPPING, Action.STOP),
}
"""An event that isn't in the table for a state changes nothing.

A broken engine reports its failure again and again, and an engine may break while it stops.
"""
