"""Failure notices: how a user learns why an endpoint didn't start, or ended."""

import asyncio
import logging
import time
from collections.abc import Coroutine
from typing import Any

from twinlock_common.amqp.errors import LinkError, LinkRefused, RefusedMessageError
from twinlock_common.amqp.link import Link
from twinlock_common.backoff import delays

from twinlock_broker import metrics
from twinlock_broker.compute import status_report
from twinlock_broker.compute.command import Credentials, new_id
from twinlock_broker.compute.outbox import Notice, Outbox

RETRY = 30.0
"""Seconds between two rounds of attempts, while RabbitMQ is away or has no queue for the notice."""

KEEP = 86400.0
"""Seconds after which a notice is given up."""

MOST = 1000
"""Notices that may wait; commands can name hosts where nobody answers."""

_ATTEMPTS = 4
_ATTEMPT_LIMIT = 15.0
_AT_ONCE = 32

log = logging.getLogger(__name__)


class Notices:
    """The sending of notices, each over a short connection with the credentials of the endpoint that it is about.

    A notice is in the `outbox` from `send` on, until it was sent or given up, or a newer start of its endpoint made it
    `forget`.
    """

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._waiting: dict[str, Notice] = {}
        self._places = asyncio.Semaphore(_AT_ONCE)

    def send(
        self, credentials: Credentials, text: str, detail: str = "", command: str = ""
    ) -> Coroutine[Any, Any, None]:
        """Tell the user `text`. The log gets `detail` too.

        The coroutine that is returned ends when the user was told, or after a few attempts; `run` makes the others. The
        error id is that of the command that the notice is about, if there is one.
        """
        text = text.encode(errors="replace").decode()  # half of a surrogate pair can be neither sent nor logged
        notice = Notice(credentials, text, command or new_id())
        log.warning("told to the user: %s%s", text, f" [{detail}]" if detail else "", extra=notice.about)
        self._waiting[notice.endpoint] = notice
        metrics.NOTICES_WAITING.set(len(self._waiting))
        self._outbox.save(notice)
        return self._deliver(notice)

    def forget(self, endpoint: str) -> None:
        """Drop the endpoint's notice: it is started again, and may do what a notice on its way would call failed."""
        if (notice := self._waiting.get(endpoint)) is not None:
            log.info("not told to the user: a newer start makes it void", extra=notice.about)
            self._drop(notice, "void")

    async def run(self) -> None:
        """Send what an earlier broker left, and what couldn't be sent at first, without end."""
        self._waiting = {notice.endpoint: notice for notice in self._outbox.load()} | self._waiting
        metrics.NOTICES_WAITING.set(len(self._waiting))
        while True:
            await asyncio.gather(*(self._deliver(notice) for notice in list(self._waiting.values())))
            await asyncio.sleep(RETRY)

    async def _deliver(self, notice: Notice) -> None:
        """Make some attempts. Two calls may do so at a time: it is harmless to tell a user twice."""
        refused = hopeless = False
        async with self._places:
            for _, delay in zip(range(_ATTEMPTS), delays(), strict=False):
                if self._waiting.get(notice.endpoint) is not notice:
                    return
                try:
                    async with asyncio.timeout(_ATTEMPT_LIMIT):
                        await _publish(notice)
                    self._drop(notice, "sent")
                    return
                except (LinkError, RefusedMessageError, TimeoutError) as error:
                    log.warning("could not notify the user: %r", error, extra=notice.about)
                    refused, hopeless = isinstance(error, LinkRefused), isinstance(error, RefusedMessageError)
                if hopeless:
                    break
                await asyncio.sleep(delay)
        if refused or hopeless or time.time() - notice.made > KEEP or len(self._waiting) > MOST:
            self._drop(notice, "lost")
            why = "RabbitMQ will never accept it" if hopeless else "the endpoint's credentials may have expired"
            log.error("the user was not told; %s", why, extra=notice.about)

    def _drop(self, notice: Notice, outcome: str) -> None:
        if self._waiting.get(notice.endpoint) is notice:
            del self._waiting[notice.endpoint]
            self._outbox.remove(notice)
            metrics.NOTICES.labels(outcome).inc()
            metrics.NOTICES_WAITING.set(len(self._waiting))


async def _publish(notice: Notice) -> None:
    target = notice.credentials.notices
    link = await Link.open(target.url.reveal())
    try:
        text = f"{notice.text}\n(error id {notice.error_id})"
        body = status_report.failure(notice.endpoint, text)
        await link.publish(target.envelope(), body)
    finally:
        await link.close()
