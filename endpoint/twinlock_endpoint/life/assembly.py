"""The parts of an endpoint, and what each of them gets of the others."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from twinlock_common.amqp.consumer import Message
from twinlock_common.amqp.errors import LinkError
from twinlock_common.document import Document

from twinlock_endpoint.config.configuration import Config
from twinlock_endpoint.engines.base import Engine
from twinlock_endpoint.home.output import Output
from twinlock_endpoint.job_origin import JobOrigin
from twinlock_endpoint.journal.journal import Journal
from twinlock_endpoint.life.figures import OwnFigures
from twinlock_endpoint.life.idle import IdleClock
from twinlock_endpoint.manager.heartbeats import Heartbeats
from twinlock_endpoint.manager.manager import Belief, Manager, Signer
from twinlock_endpoint.manager.reports import Reports
from twinlock_endpoint.manager.usage import Usage
from twinlock_endpoint.queues.connections import Connections
from twinlock_endpoint.queues.consumer import TaskConsumer
from twinlock_endpoint.tasks.intake import Intake
from twinlock_endpoint.tasks.ledger import Events, Ledger
from twinlock_endpoint.tasks.life import Tasks
from twinlock_endpoint.tasks.task_log import TaskLog
from twinlock_endpoint.tasks.window import Window, window_size
from twinlock_endpoint.worker.python_versions import mismatch

_PREFETCH = 64  # hides the round trip of short tasks, and of an acknowledgement that waits for the disk


@dataclass(frozen=True, slots=True)
class Setup:
    """The things that an endpoint runs with."""

    title: str
    """The process's title for ps."""
    folder: Path
    """The endpoint's folder."""
    document: Document
    """What the manager endpoint said."""
    config: Config
    engine: Engine
    """Prepared, and not started yet."""
    output: Output
    """The files that standard output and error go to."""
    intake: Intake
    """What decides which tasks run."""
    belief: Belief
    """What of the manager endpoint is believed."""
    signer: Signer | None = None
    """In verified mode, who has signed for the options."""
    origin: JobOrigin | None = None
    """What batch jobs say of where they come from; None if they say nothing."""


class Life(Protocol):
    """The endpoint itself, as its parts call it."""

    def deliver(self, delivery: Message) -> None:
        """Take a message of the task queue."""

    def consuming(self) -> None:
        """Note that the task queue is connected and sends tasks."""

    def link_down(self, reason: LinkError) -> None:
        """Note that a connection couldn't be made, or is lost."""

    def end_for_all(self, why: str) -> None:
        """Shut down; no other endpoint is to go on with what is left."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts, in the order in which data comes to them."""

    consumer: TaskConsumer
    connections: Connections
    manager: Manager
    ledger: Ledger
    task_log: TaskLog
    tasks: Tasks
    window: Window
    heartbeats: Heartbeats
    reports: Reports
    idle: IdleClock


def assemble(setup: Setup, journal: Journal, life: Life) -> Parts:
    """Make the parts; nothing is connected or started yet. Raise `DocumentError` if a URL can't be used."""
    document, config = setup.document, setup.config
    size = window_size(setup.engine.max_workers)
    prefetch = min(size, _PREFETCH)
    consumer = TaskConsumer(document.queues.tasks.queue, prefetch, life.deliver, life.consuming, lambda: window.lost())
    connections = Connections(document.queues, config, consumer, life.link_down)
    manager = Manager(document, connections, life.end_for_all, lambda: reports.ask(), setup.belief, setup.signer)
    task_log = TaskLog(setup.folder / "tasks.log")
    events = Events(
        room=lambda: window.pump(),
        kept=manager.backlog.changed,
        answered=task_log.note,
        refused=lambda: heartbeats.tell_manager(),
    )
    ledger = Ledger(journal, connections.results.publish, prefetch, events)
    idle = IdleClock(
        config.idle_heartbeats_soft, config.idle_heartbeats_hard, config.heartbeat_period, document.restarted
    )
    usage = Usage(document.endpoint_id)
    own = OwnFigures(setup.engine, ledger, idle, usage)
    heartbeats = Heartbeats(document, config.raw, setup.engine.figures, connections, manager, own.beside)
    reports = Reports(usage, heartbeats.look, heartbeats.tell_manager)
    tasks = Tasks(
        setup.engine,
        setup.intake,
        ledger,
        journal,
        lambda: mismatch(heartbeats.figures),
        manager.audit,
    )
    window = Window(consumer, ledger, size, tasks.take)
    return Parts(consumer, connections, manager, ledger, task_log, tasks, window, heartbeats, reports, idle)
