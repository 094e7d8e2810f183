"""What decides about each task in verified mode: signatures, options, functions, and numbers."""

import logging
import time
from dataclasses import dataclass

from twinlock_common.amqp.consumer import Message
from twinlock_common.log_ration import LogRation
from twinlock_common.offload import in_thread
from twinlock_signed.errors import ConfigError, Refused
from twinlock_signed.statement import digest

from twinlock_endpoint.task import Task
from twinlock_endpoint.tasks import outcomes
from twinlock_endpoint.tasks.intake import Admitted, CameBeforeError, Intake, Origin, Refusal
from twinlock_endpoint.tasks.outcomes import Outcome
from twinlock_endpoint.verified import envelopes
from twinlock_endpoint.verified.claimed import Syncs
from twinlock_endpoint.verified.delegations import LARGE, Delegations, Signed
from twinlock_endpoint.verified.envelopes import Kept
from twinlock_endpoint.verified.seal import Sealer
from twinlock_endpoint.verified.site import Site

log = logging.getLogger(__name__)

_UNUSABLE = (ConfigError, OSError)  # a file of root's or of the account's


@dataclass(frozen=True, slots=True)
class SignedTask(Admitted):
    """A task that its user has signed, and that may run."""

    signed: Signed
    syncs: Syncs
    log: LogRation

    async def claim(self) -> Outcome | None:
        """Record the task's number, and wait until that is on disk; then the log has it, too."""
        signed, number = self.signed, self.signed.task.number
        try:
            signed.claim.admit(number, self.task.id)
            await self.syncs.wait(signed.claim, signed.signer, f"task {self.task.id} number={number}")
        except Refused as error:
            return _refused(self.log, self.task.id, str(error))
        except OSError as error:
            return outcomes.not_stored(self.task.id, error)
        return None


class SignedIntake(Intake):
    """Only what the account's user has signed may run, with the options of this endpoint, and each number once."""

    def __init__(self, site: Site, delegations: Delegations, sealer: Sealer) -> None:
        self._user = site.host.user
        self._allowed = site.settings.allowed_functions
        self._delegations = delegations
        self._sealer = sealer
        self._syncs = Syncs()
        self._log = LogRation(log)
        self.options: str | None = None
        """The options of this endpoint, as `delegation.options` writes them; None while any may become them."""

    async def admit(self, task_id: str, delivery: Message) -> SignedTask | Refusal:
        """See `Intake`. Of the delivery's headers nothing counts."""
        body = delivery.body
        try:
            envelope = await in_thread(lambda: envelopes.read(body)) if len(body) > LARGE else envelopes.read(body)
        except Refused:
            return self._refuse(task_id, Origin(), _unsigned(self._user))
        return await self._examine(task_id, Kept(time.time(), envelope), is_past=False)

    async def readmit(self, task: Task) -> SignedTask | Refusal:
        """See `Intake`. What an endpoint in plain mode has kept isn't admitted."""
        try:
            kept = envelopes.kept(task.body)
        except Refused as error:
            return self._refuse(task.id, Origin(), str(error))
        return await self._examine(task.id, kept, is_past=True)

    async def _examine(self, task_id: str, kept: Kept, *, is_past: bool) -> SignedTask | Refusal:
        try:
            signed = await self._delegations.check(kept.envelope, kept.accepted, is_past=is_past)
        except Refused as error:
            return self._refuse(task_id, Origin(), str(error))
        except _UNUSABLE as error:
            return self._refuse(task_id, Origin(), f"This host can't tell whether the task may run: {error}")
        origin = Origin(digest(signed.task.function.encode()), signed.words)
        try:
            self._check(signed, origin.function_id)
            is_new = signed.claim.is_new(signed.task.number, task_id)
        except Refused as error:
            return self._refuse(task_id, origin, str(error))
        if not is_new and not is_past:
            self._log.warning(task_id, "Task %s has come before, and doesn't run again", task_id)
            raise CameBeforeError
        return self._admitted(task_id, kept, signed, origin)

    def _check(self, signed: Signed, function: str) -> None:
        """Raise `Refused` for other options than this endpoint has, or a function that root doesn't allow."""
        if self.options not in (None, signed.options):
            raise Refused(
                "The task is signed for other options than this endpoint has; whoever sent it here has mixed up two "
                "endpoints. Submit it again, and report it if that doesn't help"
            )
        if self._allowed is not None and function not in self._allowed:
            raise Refused(
                f"The function isn't allowed here: its SHA-256 is {function}, which isn't in the site's list; "
                "ask the administrator to add it"
            )

    def _admitted(self, task_id: str, kept: Kept, signed: Signed, origin: Origin) -> SignedTask:
        asked = signed.task
        return SignedTask(
            origin=origin,
            kept=Task(task_id, origin.function_id, envelopes.keep(kept)),
            task=Task(
                task_id,
                origin.function_id,
                envelopes.for_worker(task_id, asked),
                asked.resource_specification,
                tuple(asked.result_serializers),
            ),
            seal=self._sealer.of(signed.digest, task_id),
            signed=signed,
            syncs=self._syncs,
            log=self._log,
        )

    def _refuse(self, task_id: str, origin: Origin, reason: str) -> Refusal:
        return Refusal(origin, _refused(self._log, task_id, reason))


def _refused(log: LogRation, task_id: str, reason: str) -> Outcome:
    """Return the outcome of a task that is refused, and log it: one line for a task, some fifty a minute in all."""
    log.warning(task_id, "Task %s is refused: %s", task_id, reason.partition("\n")[0])
    return outcomes.refused(task_id, reason)


def _unsigned(user: str) -> str:
    return (
        "This endpoint runs only work that its user has signed, and this task isn't signed.\n"
        "On your computer, run\n"
        "    pip install twinlock-client\n"
        "and in your script replace globus_compute_sdk's Executor:\n"
        "    from twinlock_client import SignedExecutor\n"
        f'    with SignedExecutor(endpoint_id, user="{user}", user_endpoint_config=options) as executor:'
    )
