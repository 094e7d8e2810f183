"""The results on their way to RabbitMQ. They outlast connections, and go out in order."""

import asyncio
import logging
from dataclasses import dataclass, field

from twinlock_common.amqp.envelope import Envelope
from twinlock_common.amqp.errors import LinkError, NotTaken, Suspect
from twinlock_common.amqp.link import Link

log = logging.getLogger(__name__)

_RETRY_S = 5.0


@dataclass(slots=True, eq=False)
class _Result:
    body: bytes = field(repr=False)
    sent: asyncio.Future[None] | None = None
    """Done when RabbitMQ has confirmed it as it was last sent, see `Link.publish`; None if it never was."""
    is_suspect: bool = False
    """A connection ended over this result, or over one that was published with it."""


class Results:
    """The results that RabbitMQ has not confirmed.

    After a reconnect they go out again, so each goes out at least once: the confirm alone may be lost.
    """

    def __init__(self, envelope: Envelope) -> None:
        self.envelope = envelope
        """What surrounds the results. Another one counts from the next result on."""
        self._link: Link | None = None
        self._connected = asyncio.Event()
        self._unconfirmed: dict[_Result, None] = {}

    async def publish(self, body: bytes) -> None:
        """Publish a result now or as soon as there is a connection, and wait until RabbitMQ has it.

        Raise `RefusedMessageError` if RabbitMQ will never accept it.
        """
        result = _Result(body)
        self._unconfirmed[result] = None
        try:
            self._send(result)
            await self._confirmation(result)
        finally:
            del self._unconfirmed[result]

    def use(self, link: Link) -> None:
        """Publish over this connection from now on, first what isn't confirmed."""
        self._link = link
        for result in self._unconfirmed:
            self._send(result)
        self._connected.set()
        self._connected.clear()

    def _send(self, result: _Result) -> None:
        if self._link is not None:
            result.sent = self._link.publish(self.envelope, result.body, is_suspect=result.is_suspect)

    async def _confirmation(self, result: _Result) -> None:
        while True:
            sent = result.sent
            try:
                if sent is not None:
                    return await sent
            except NotTaken as error:
                log.error("A result found no queue (%s), next try in %.0f s", error, _RETRY_S)
                await asyncio.sleep(_RETRY_S)
                if result.sent is sent:
                    self._send(result)
            except LinkError as error:
                result.is_suspect |= isinstance(error, Suspect)
            while result.sent is sent:  # until `use` sends it
                await self._connected.wait()
