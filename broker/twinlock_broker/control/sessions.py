"""The user endpoints' connections: fresh credentials go down, figures and audit records come up.

No message says which endpoint it comes from: the kernel says which process connected, the spawner which endpoint that
is. Lines are JSON objects with a `type`.

Down: ``credentials`` {amqp_creds}, ``audited`` {number}, ``unaudited`` {number}, ``end`` {reason}, which says that no
other endpoint goes on with its tasks, ``report``, which asks for figures as of now, and for some seconds more.

Up: ``figures`` {figures: name to number, condition: what is in the way of its tasks, jobs: ids of its batch jobs,
histograms: how long its tasks waited and ran, by the names and buckets of `twinlock_common.task_times`, as {counts,
sum}, reports: whether it understands ``report``, in verified mode signed: {key, delegation}}, ``audit`` {number,
records: a list of texts}, ``journal`` {tasks: the number of unfinished ones}, ``stop``, if its user stops it.

An endpoint has one connection, and a ration of messages and of audit records. What comes faster waits unread: that
holds up its own endpoint, and nobody else.
"""

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping
from typing import Any

from twinlock_common.log_ration import LogRation

from twinlock_broker import metrics
from twinlock_broker.audit import AuditLog
from twinlock_broker.config.policies import Mode
from twinlock_broker.control import messages, told
from twinlock_broker.control.identification import Identification
from twinlock_broker.control.listener import Caller
from twinlock_broker.control.told import Tellers, Told
from twinlock_broker.endpoints import task_times
from twinlock_broker.endpoints.endpoint import Endpoint, Signed, Stopper
from twinlock_broker.endpoints.registry import State
from twinlock_broker.endpoints.supervisor import Supervisor
from twinlock_broker.endpoints.task_times import Histogram
from twinlock_broker.ration import Rations

MESSAGE_RATE = 20.0
"""Messages a second that an endpoint may send on average, audit records not counted."""

MESSAGES_AT_ONCE = 200.0
"""Messages that it may send at once."""

AUDIT_RATE = 256 << 10
"""Bytes a second that an endpoint may have written to the audit log on average: the records of some 500 tasks."""

AUDIT_AT_ONCE = 1 << 20
"""Bytes that it may have written at once: those of some 2,000 tasks."""

_LEAST = 200
"""Bytes that an audit message counts as at least."""

log = logging.getLogger(__name__)


class Sessions:
    """The connections of `supervisor`'s endpoints, one each. Without an `audit` no record is ever safe."""

    def __init__(self, supervisor: Supervisor, audit: AuditLog | None) -> None:
        self._supervisor = supervisor
        supervisor.listeners.refreshed = self.refresh
        supervisor.listeners.stopping = self.end
        self._audit = audit
        self._identification = Identification(supervisor)
        self._callers: dict[str, Caller] = {}
        self._tellers = Tellers(lambda endpoint_id: self._callers[endpoint_id].send({"type": "report"}))
        self._messages = Rations(MESSAGE_RATE, MESSAGES_AT_ONCE)
        self._records = Rations(AUDIT_RATE, AUDIT_AT_ONCE)
        self._log = LogRation(log, metrics.DROPPED_LOG_LINES.inc)
        metrics.REFUSED_RESULTS.set_function(lambda: self._tellers.total("refused_results"))

    async def serve(self, caller: Caller) -> None:
        """Serve a client's connection from its start to its end."""
        endpoint = await self._identification.endpoint_of(caller)
        if endpoint is None:
            text = "process %d of uid %d isn't a user endpoint; it was disconnected"
            self._log.warning(caller.uid, text, caller.pid, caller.uid)
            return
        self._take_over(endpoint, caller)
        try:
            await self._listen(endpoint, caller)
        except ValueError as error:
            self._warn(endpoint, "broke the control protocol and was disconnected: %s", error)
            caller.hang_up()
        finally:
            if self._callers.get(endpoint.id) is caller:
                del self._callers[endpoint.id]
                self._tellers.forget(endpoint.id)

    def refresh(self, endpoint: Endpoint) -> None:
        """Give a running endpoint the newest credentials; one that isn't connected gets them when it is."""
        caller, request = self._callers.get(endpoint.id), endpoint.request
        if caller is not None and request is not None and request.user == endpoint.user:
            caller.send({"type": "credentials", "amqp_creds": request.credentials.amqp.reveal()})

    def end(self, endpoint: Endpoint, reason: str) -> None:
        """Tell a running endpoint to end, and to end all its tasks. One that isn't connected only gets a signal."""
        caller = self._callers.get(endpoint.id)
        if caller is not None:
            caller.send({"type": "end", "reason": reason})

    def figures(self, endpoint: Endpoint) -> dict[str, float] | None:
        """Return what the endpoint said last about its work; None while it isn't connected."""
        return self.told(endpoint).figures if endpoint.id in self._callers else None

    def told(self, endpoint: Endpoint) -> Told:
        """Return what the endpoint said last about itself, which is nothing while it isn't connected."""
        return self._tellers.of(endpoint.id)

    async def refresh_figures(self, endpoints: Iterable[Endpoint]) -> None:
        """Have these endpoints tell their figures as of now, to somebody who looks; wait for a moment only."""
        await self._tellers.refresh([endpoint.id for endpoint in endpoints])

    def _take_over(self, endpoint: Endpoint, caller: Caller) -> None:
        """Put `caller` in the place of the endpoint's former connection."""
        former = self._callers.get(endpoint.id)
        if former is not None:
            former.hang_up()
            self._tellers.forget(endpoint.id)
        self._callers[endpoint.id] = caller
        caller.visitor.known()
        if endpoint.connected_pid != endpoint.pid:
            self._note_process(endpoint)
        if endpoint.has_newer_request:
            self.refresh(endpoint)

    def _note_process(self, endpoint: Endpoint) -> None:
        """Note that this is the first connection of the endpoint's process to this broker."""
        endpoint.connected_pid, endpoint.task_times = endpoint.pid, None
        if endpoint.launch is not None:  # an earlier broker started it otherwise, and has had its first connection
            endpoint.task_times = {}
            metrics.ONLINE.observe(time.monotonic() - endpoint.started)

    async def _listen(self, endpoint: Endpoint, caller: Caller) -> None:
        while (message := await caller.receive()) is not None:
            audited = self._audit if message.get("type") == "audit" else None
            await self._turn(endpoint, self._records if audited else self._messages)
            if self._callers.get(endpoint.id) is not caller:
                return  # a later connection has taken its place
            if audited is not None:
                await self._write(audited, endpoint, caller, message)
            else:
                await self._note(endpoint, caller, message)

    async def _turn(self, endpoint: Endpoint, rations: Rations) -> None:
        """Wait until a further message of the endpoint may be taken."""
        wait = rations.of(endpoint.id).wait()
        if wait:
            what = "audit records" if rations is self._records else "messages"
            self._warn(endpoint, "its %s come faster than they are handled; only this endpoint has to wait", what)
            await asyncio.sleep(wait)

    async def _note(self, endpoint: Endpoint, caller: Caller, message: dict[str, Any]) -> None:
        self._messages.of(endpoint.id).take()
        if message.get("type") == "figures":
            self._note_told(endpoint, told.read(message))
            self._count_task_times(endpoint, messages.read_histograms(message))
            await self._note_signed(endpoint, caller, messages.read_signed(message))
        elif message.get("type") == "journal":
            self._supervisor.note_unfinished(endpoint, messages.read_tasks(message))
        elif message.get("type") == "stop":
            await self._stop(endpoint)
        elif message.get("type") == "audit":
            number, _ = messages.read_audit(message)
            caller.send({"type": "unaudited", "number": number})
        else:
            raise ValueError("a message of an unknown type")

    def _note_told(self, endpoint: Endpoint, said: Told) -> None:
        """Note what an endpoint says of itself, and log which batch jobs are new: somebody may ask whose they were."""
        before = self._tellers.of(endpoint.id).jobs
        self._tellers.note(endpoint.id, said)
        jobs = [job for job in said.jobs if job not in before]
        if jobs:
            about = {"endpoint": endpoint.id, "user": endpoint.user}
            about |= {"command": endpoint.command} if endpoint.command else {}
            log.info("says that it has batch jobs: %s", ", ".join(jobs), extra=about)

    def _count_task_times(self, endpoint: Endpoint, histograms: Mapping[str, Histogram]) -> None:
        objection = task_times.objection(histograms, time.monotonic() - endpoint.started)
        if objection:
            metrics.DROPPED_TASK_TIMES.inc()
            self._warn(
                endpoint, "the times that it tells of its tasks can't be true, and aren't counted: %s", objection
            )
        else:
            endpoint.task_times = task_times.count(histograms, endpoint.task_times)

    async def _stop(self, endpoint: Endpoint) -> None:
        """End it, as `twinlock my stop` does: no command that came before starts it again."""
        if endpoint.state is not State.STOPPING:
            log.info("its user stops it", extra={"endpoint": endpoint.id, "user": endpoint.user})
            await self._supervisor.stop(endpoint.id, Stopper.USER)

    async def _note_signed(self, endpoint: Endpoint, caller: Caller, signed: Signed | None) -> None:
        """Have log and audit name, once for each process, who has signed for it."""
        if signed is None or not self._supervisor.note_signed(endpoint, signed):
            return
        words = f"mode={Mode.VERIFIED} key={signed.key} delegation={signed.delegation}"
        log.info("it says that it was signed for: %s", words, extra={"endpoint": endpoint.id, "user": endpoint.user})
        if self._audit is not None:
            await self._audit.write(self._audit.lines(caller.uid, endpoint.pid, endpoint.id, [f"STARTED - {words}"]))

    async def _write(self, audit: AuditLog, endpoint: Endpoint, caller: Caller, message: dict[str, Any]) -> None:
        number, records = messages.read_audit(message)
        lines = audit.lines(caller.uid, endpoint.pid, endpoint.id, records)
        self._records.of(endpoint.id).take(max(_LEAST, len(lines)))
        safe = await audit.write(lines)
        caller.send({"type": "audited" if safe else "unaudited", "number": number})

    def _warn(self, endpoint: Endpoint, text: str, value: object) -> None:
        self._log.warning(endpoint.id, text, value, endpoint=endpoint.id, user=endpoint.user)
