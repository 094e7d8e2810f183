"""What happens to each message on the command queue: a start, or a text that says why not."""

import logging
import time
from collections.abc import Awaitable, Callable

from twinlock_broker import metrics, options_text
from twinlock_broker.compute import command, salvage
from twinlock_broker.compute.command import Credentials, Delivery
from twinlock_broker.endpoints.failures import Failures
from twinlock_broker.endpoints.fair_queue import FairQueue
from twinlock_broker.endpoints.lifecycle import Tell
from twinlock_broker.endpoints.pipeline import StartPipeline, StartRequest
from twinlock_broker.errors import CommandError

log = logging.getLogger(__name__)


class CommandHandler:
    """The handling of commands for the manager `manager_id`. `amqp_port` replaces the port of their AMQP addresses."""

    def __init__(
        self,
        manager_id: str,
        amqp_port: int | None,
        pipeline: StartPipeline,
        start: Callable[[StartRequest], Awaitable[None]],
        tell: Tell,
        failures: Failures,
    ) -> None:
        self._manager_id = manager_id
        self._amqp_port = amqp_port
        self._pipeline = pipeline
        self._start = start
        self._tell = tell
        self._failures = failures
        self._queue = FairQueue()

    async def handle(self, delivery: Delivery) -> None:
        """Handle a command until its outcome is decided: started, kept for a running endpoint, or refused and told."""
        try:
            message = command.decode(delivery)
            credentials = command.credentials(message, self._amqp_port)
        except CommandError as error:
            await self._give_up(delivery, error)
            return
        try:
            request = await self._prepare(delivery, message, credentials)
            log.info("%s", _mapped(request), extra=_about(delivery, credentials) | {"user": request.user})
            await self._start(request)
        except CommandError as error:
            await self._refuse(delivery, credentials, error)
        except Exception as error:
            log.exception("a command failed unexpectedly", extra=_about(delivery, credentials))
            text = "The endpoint failed on the start request. Tell the endpoint's administrator"
            await self._refuse(delivery, credentials, CommandError(text, repr(error)))
        else:
            metrics.COMMANDS.labels("carried_out").inc()

    def close(self) -> None:
        """End the pipeline's processes: no more commands come."""
        self._pipeline.close()

    async def _give_up(self, delivery: Delivery, error: CommandError) -> None:
        """Drop a message that can't be read. Its sender is told if at least the credentials can be read."""
        found = salvage.credentials(delivery.body, self._amqp_port)
        if found is None:
            log.error("a command was dropped, and nobody can be told: %s", error.text)
            metrics.COMMANDS.labels("dropped").inc()
        else:
            await self._refuse(delivery, found, error)

    async def _refuse(self, delivery: Delivery, found: Credentials, error: CommandError) -> None:
        """Tell the user, and the administrator, why a command isn't carried out."""
        metrics.COMMANDS.labels("refused").inc()
        self._failures.refused(found.endpoint_id, delivery.id, error)
        await self._tell(found, error.text, error.detail, delivery.id)

    async def _prepare(self, delivery: Delivery, message: dict[str, object], credentials: Credentials) -> StartRequest:
        command.check_fresh(delivery.timestamp, time.time())
        command.check_known(message)
        start = command.parse(message, credentials, self._manager_id, delivery.id)
        self._failures.commanded(delivery.id, start.username)
        log.info("start command of %s", start.username, extra=_about(delivery, credentials))
        async with self._queue.turn(start.identities[0]["sub"]):
            return await self._pipeline.prepare(start)


def _about(delivery: Delivery, credentials: Credentials) -> dict[str, str]:
    return {"endpoint": credentials.endpoint_id, "command": delivery.id}


def _mapped(request: StartRequest) -> str:
    """Return for whom an endpoint is started, and which options are given."""
    by = f" by the identity {request.document.match.identity}" if request.document.match.identity else ""
    given = f"; options given: {options_text.names(request.options)}" if request.options else ""
    return f"mapped to the account {request.user}{by}{given}"
