"""Failure notices: how a user learns why an endpoint didn't start, or ended."""

import asyncio
import logging
import uuid

from twinlock_broker import metrics
from twinlock_broker.backoff import delays
from twinlock_broker.compute import report
from twinlock_broker.compute.amqp import Link, LinkError
from twinlock_broker.compute.command import Credentials

_ATTEMPTS = 4
_ATTEMPT_LIMIT = 15.0
_AT_ONCE = 32

log = logging.getLogger(__name__)


class Notices:
    """Sends notices, each over a short connection with the credentials of the endpoint that it is about."""

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(_AT_ONCE)

    async def send(self, credentials: Credentials, text: str, detail: str = "") -> None:
        """Tell the user `text`; the log gets `detail` too. Tries a few times, then leaves it at the log line."""
        text = text.encode(errors="replace").decode()  # half of a surrogate pair can be neither sent nor logged
        error_id = uuid.uuid4().hex[:8]
        endpoint = credentials.endpoint_id
        about = {"endpoint": endpoint, "error_id": error_id}
        log.warning("told to the user: %s%s", text, f" [{detail}]" if detail else "", extra=about)
        body = report.failure(endpoint, f"{text}\n(error id {error_id})")
        async with self._places:
            for _, delay in zip(range(_ATTEMPTS), delays(), strict=False):
                try:
                    async with asyncio.timeout(_ATTEMPT_LIMIT):
                        await _publish(credentials, body)
                    metrics.NOTICES.labels("sent").inc()
                    return
                except (LinkError, TimeoutError) as error:
                    log.warning("the user couldn't be told, it is tried again: %r", error, extra=about)
                await asyncio.sleep(delay)
        metrics.NOTICES.labels("lost").inc()
        log.error("the user was not told; the endpoint's credentials may have expired", extra=about)


async def _publish(credentials: Credentials, body: bytes) -> None:
    link = await Link.open(credentials.notices.url)
    try:
        await link.publish(credentials.notices, body)
    finally:
        await link.close()
