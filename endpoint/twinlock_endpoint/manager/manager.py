"""The manager endpoint as seen from here: ours by its control socket, the agent's by the descriptors that it left."""

import asyncio
import logging
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from twinlock_common.document import Document, DocumentError, Queues, queues

from twinlock_endpoint.manager.audit import Audit
from twinlock_endpoint.manager.backlog import Backlog
from twinlock_endpoint.manager.control import Control
from twinlock_endpoint.manager.globus import AuditPipe, SharedCredentials
from twinlock_endpoint.queues.connections import Connections

_LONGEST_CONDITION = 1000
"""Characters of a condition; the manager shows fewer, and takes no message of more than 64 KiB."""

_MOST_JOBS = 64
_JOB = re.compile(r"[!-~]{1,64}")
"""A batch job's id. The manager hangs up on anything else."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Belief:
    """What of the manager endpoint is believed; by default everything."""

    queues: Callable[[dict[str, Any]], Queues] = queues
    """Returns the queues in `amqp_creds`. Raises `DocumentError` if they aren't to be used."""
    uid: int | None = None
    """The account under which the manager endpoint runs; None if that doesn't matter."""


@dataclass(frozen=True, slots=True)
class Signer:
    """Who has signed the delegation whose options an endpoint in verified mode has. The manager notes it."""

    key: str
    """The fingerprint of the person's key."""
    delegation: str
    """The delegation's id."""


class Manager:
    """The connection of the endpoint's parts to its manager: credentials come in, figures and audit records go out.

    `end` is called with the reason when the manager tells the user that this endpoint, and all it has, is ended;
    `report` when somebody at the manager looks, and figures as of now are wanted.
    """

    def __init__(
        self,
        document: Document,
        connections: Connections,
        end: Callable[[str], None],
        report: Callable[[], None],
        belief: Belief,
        signer: Signer | None = None,
    ) -> None:
        self._connections = connections
        self._signer: dict[str, Any] = {} if signer is None else {"signed": asdict(signer)}
        self._queues = belief.queues
        self._shared = _shared(document)
        self._used: dict[str, Any] | None = None
        self._audit = Audit(
            self._to_socket if document.audit_fd is None else self._to_pipe(AuditPipe(document.audit_fd))
        )
        handlers = {
            "credentials": self._renew,
            "audited": self._audit.audited,
            "unaudited": self._audit.unaudited,
            "end": lambda message: end(str(message.get("reason"))),
            "report": lambda _: report(),
        }
        self._told: dict[str, Any] | None = None
        self._control = Control(document.control, handlers, self._connected, belief.uid)
        self.backlog = Backlog(self._tell_backlog)
        """The report of the journal's tasks to the manager."""
        self.audit = self._audit if document.audited else None
        """The audit, if the manager asks for one."""

    async def run(self) -> None:
        """Keep the connection, without end; return if there is none to keep."""
        await self._control.run()

    def tell(self, figures: dict[str, Any]) -> None:
        """Tell the manager the figures, the condition that the engine is in, its batch jobs and its tasks' times."""
        self._told = {
            "type": "figures",
            "figures": {name: value for name, value in figures.items() if type(value) in (int, float)},
            "condition": str(figures.get("condition") or "")[:_LONGEST_CONDITION],
            "jobs": [job for job in figures.get("jobs", ()) if _JOB.fullmatch(job)][:_MOST_JOBS],
            "histograms": figures.get("histograms", {}),
            "reports": True,
            **self._signer,
        }
        self._control.send(self._told)
        self.backlog.say()

    def look_for_credentials(self) -> None:
        """Use what the agent's manager wrote since the last time; to be called when a connection is lost."""
        found = self._shared.read() if self._shared is not None else None
        if found is not None and found != self._used:
            self._used = found
            try:
                self._renew({"amqp_creds": found})
            except DocumentError as error:
                log.warning("The manager endpoint's credentials can't be used: %s", error)

    def tell_stop(self) -> None:
        """Tell the manager that the user stops this endpoint, so that no command that came before starts it again."""
        self._control.send({"type": "stop"})

    async def drain(self, limit_s: float) -> None:
        """Wait until every audit record is written, at most `limit_s` seconds."""
        await self._audit.drain(limit_s)

    def _connected(self) -> None:
        if self._told is not None:  # a manager that has just started knows nothing, and asks only who understands it
            self._control.send(self._told)
        self.backlog.say()
        self._audit.connected()

    def _tell_backlog(self, tasks: int) -> None:
        self._control.send({"type": "journal", "tasks": tasks})

    def _renew(self, message: dict[str, Any]) -> None:
        self._connections.renew(self._queues(message.get("amqp_creds") or {}))
        log.info("There are fresh credentials for the queues")

    def _to_socket(self, message: dict[str, Any]) -> bool:
        return self._control.send(message)

    def _to_pipe(self, pipe: AuditPipe) -> Callable[[dict[str, Any]], bool]:
        def send(message: dict[str, Any]) -> bool:
            answer = self._audit.audited if pipe.write(message["records"]) else self._audit.unaudited
            asyncio.get_running_loop().call_soon(answer, message)
            return True

        return send


def _shared(document: Document) -> SharedCredentials | None:
    if document.shared_fd is None:
        return None
    try:
        return SharedCredentials(document.shared_fd, document.shared_key)
    except ValueError:
        raise DocumentError("The start document has an enckey that is none.") from None
