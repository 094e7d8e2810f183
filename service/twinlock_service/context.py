"""The parts of a running service: everything that a request may need, in one place."""

from __future__ import annotations

import asyncio
import sqlite3
from dataclasses import dataclass, field

from twinlock_service.limits.concurrency import CallerLimits, NamedLocks
from twinlock_service.rabbitmq.client import AmqpClient
from twinlock_service.rabbitmq.topology import Topology
from twinlock_service.state.endpoints import Endpoints
from twinlock_service.state.functions import Functions
from twinlock_service.state.result_logins import ResultLogins
from twinlock_service.state.tasks import Tasks
from twinlock_service.state.tokens import Tokens
from twinlock_service.users.directory import Users


@dataclass(slots=True)
class Context:
    """The parts of a running service."""

    db: sqlite3.Connection
    """The state, which all tables are in."""
    users: Users
    """As the users file has them now."""
    topology: Topology
    """What the service declares in RabbitMQ."""
    amqp: AmqpClient
    """The service's own connection to RabbitMQ."""
    endpoints: Endpoints = field(init=False)
    functions: Functions = field(init=False)
    tasks: Tasks = field(init=False)
    tokens: Tokens = field(init=False)
    result_logins: ResultLogins = field(init=False)
    forwarding: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while results are offered to the SDK, so that none is offered twice."""
    backlog: asyncio.Event = field(default_factory=asyncio.Event)
    """Set where there may be results that were not offered to the SDK."""
    callers: CallerLimits = field(default_factory=CallerLimits)
    """How much one caller may have in work."""
    endpoint_locks: NamedLocks = field(default_factory=NamedLocks)
    """By endpoint: held while its tasks are recorded and queued, or ended and discarded, so that the two agree."""

    def __post_init__(self) -> None:
        self.endpoints = Endpoints(self.db)
        self.functions = Functions(self.db)
        self.tasks = Tasks(self.db)
        self.tokens = Tokens(self.db)
        self.result_logins = ResultLogins(self.db)
