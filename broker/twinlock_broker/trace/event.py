"""An event of a trace, with the ids by which lines of different logs belong together."""

from dataclasses import dataclass
from enum import Enum, StrEnum


class Source(StrEnum):
    """Who says that something happened."""

    BROKER = "broker"
    SPAWNER = "spawner"
    NOW = "now"
    """The broker or the kernel, asked by this command."""
    AUDIT = "audit log"
    SCHEDULER = "scheduler"
    USER = "user's log"
    """A file that the account can write: nothing in it is evidence."""


class Step(Enum):
    """What a line of the spawner's is about."""

    START = "the start of an endpoint's process"
    SIGNAL = "a signal to it"
    END = "its end, or that of the attempt to start one"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. Texts are empty, and numbers 0, where the source doesn't say."""

    time: float
    """In seconds since 1970."""
    source: Source
    text: str
    """What happened, in words."""
    request: str = ""
    """The request id, which is also the error id: that of the start command."""
    endpoint: str = ""
    """The user endpoint's uuid."""
    user: str = ""
    """The local account."""
    person: str = ""
    """The name of the identity in the start command."""
    identity: str = ""
    """The uuid of the identity by which the account was found."""
    name: str = ""
    """The endpoint's name, ``uep.MANAGER.ENDPOINT`` with both uuids."""
    pid: int = 0
    """The endpoint's process."""
    jobs: tuple[str, ...] = ()
    """Batch jobs that the endpoint has named."""
    tasks: tuple[str, ...] = ()
    """The tasks, and their functions, that it is about."""
    step: Step | None = None
    """By the spawner's word; None for what others say."""
