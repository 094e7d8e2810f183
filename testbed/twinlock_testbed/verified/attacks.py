"""What the hostile broker tries, one thing after the other, while the user waits for two tasks."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from globus_compute_common.messagepack import unpack

from twinlock_testbed.daemons import DaemonError
from twinlock_testbed.verified import forgery
from twinlock_testbed.verified.forgery import Envelope
from twinlock_testbed.verified.hostile import HostileBroker

_NOWHERE = "203.0.113.9"
"""An address that is nobody's (RFC 5737)."""


class Attempt(NamedTuple):
    """What was tried, and what came of it."""

    what: str
    """What the hostile broker does, as an order."""
    outcome: str
    log: str
    """The line that the endpoint's log has about it, or what else says so."""


class Campaign:
    """All attempts against one user, of whom two tasks are on their way."""

    def __init__(self, broker: HostileBroker, trace: Path) -> None:
        """`trace` is a path on the user's own computer, at which nothing may ever be."""
        self._broker = broker
        self._trace = trace
        self._creds = broker.intercept_command()
        self._first, self._second = broker.intercept_tasks(self._creds, 2)
        self._known = forgery.read(self._first)

    def attempts(self) -> Iterator[Attempt]:
        """Make each attempt as it is asked for."""
        yield self._start_another_program()
        yield self._start_with_own_configuration()
        yield from self._deliver_forgeries()
        yield self._deliver_what_was_signed()
        yield self._replay()
        yield self._replay_elsewhere()
        yield self._start_with_queues_elsewhere()

    def forge_a_result(self) -> None:
        """Answer the second task in the endpoint's place, with a pickle that runs code where it is read."""
        task_id = str(unpack(self._second).task_id)
        self._broker.answer(self._creds, forgery.result(task_id, str(self._trace)))

    def _start_another_program(self) -> Attempt:
        answer = self._broker.start(self._creds, program="plain")
        if "refused" not in answer:
            raise DaemonError("the spawner has started a program that verifies nothing")
        return Attempt("start a program that verifies nothing", "the spawner refuses", answer["refused"])

    def _start_with_own_configuration(self) -> Attempt:
        config = f"engine: {{type: ThreadPoolEngine}}\nendpoint_setup: touch {self._broker.trace}\n"
        self._broker.start(self._creds, config=config)
        line = self._broker.log_line(self._creds, "until one is signed")
        return Attempt("start an endpoint with a command in its configuration", "the command is ignored", line)

    def _deliver_forgeries(self) -> Iterator[Attempt]:
        """Deliver tasks that the user hasn't signed."""
        path = str(self._broker.trace)
        task_id = str(uuid.uuid4())
        self._broker.deliver(self._creds, task_id, forgery.unsigned(task_id, path))
        yield self._refused("deliver a task of its own, unsigned", self._creds, task_id)
        forged = {
            "deliver a task of its own with the user's delegation": forgery.with_own_task(self._known, path),
            "deliver the user's task with other options": forgery.with_other_options(self._known, path),
            "deliver a delegation signed by an SSH key of its own": forgery.with_own_delegation(
                self._known, path, self._broker.key
            ),
        }
        for what, envelope in forged.items():
            yield self._refused(what, self._creds, self._deliver(self._creds, envelope))

    def _deliver_what_was_signed(self) -> Attempt:
        task_id = str(unpack(self._first).task_id)
        self._broker.deliver(self._creds, task_id, self._first)
        line = self._broker.log_line(self._creds, f": task {task_id} number=")
        return Attempt("deliver the user's own task, late", "it runs, since the user has signed it", line)

    def _replay(self) -> Attempt:
        return self._refused("deliver the same task once more", self._creds, self._deliver(self._creds, self._known))

    def _replay_elsewhere(self) -> Attempt:
        own = self._broker.own_queues()
        self._broker.start(own)
        return self._refused(
            "deliver the same task to an endpoint of another name", own, self._deliver(own, self._known)
        )

    def _start_with_queues_elsewhere(self) -> Attempt:
        own = self._broker.own_queues()
        for name in ("task_queue_info", "result_queue_info", "heartbeat_queue_info"):
            own[name]["connection_url"] = f"amqps://user:password@{_NOWHERE}/"
        answer = self._broker.start(own, wait=True)
        return Attempt("have an endpoint connect to a host of its own", "the endpoint ends", answer["said"])

    def _deliver(self, creds: dict[str, Any], envelope: Envelope) -> str:
        """Deliver an envelope under a new uuid, which is returned."""
        task_id = str(uuid.uuid4())
        self._broker.deliver(creds, task_id, forgery.message(task_id, envelope))
        return task_id

    def _refused(self, what: str, creds: dict[str, Any], task_id: str) -> Attempt:
        return Attempt(what, "refused", self._broker.log_line(creds, f"Task {task_id} is refused: "))
