"""One AMQP connection that comes back by itself, with a channel for each of its users."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import pika
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.channel import Channel
from pika.exceptions import ProbableAccessDeniedError, ProbableAuthenticationError
from twinlock_common.amqp.connection import Connection
from twinlock_common.backoff import delays

log = logging.getLogger(__name__)

_STABLE_S = 60.0
_OPEN_LIMIT_S = 30.0
_CLOSE_LIMIT_S = 3.0

REFUSED = (ProbableAuthenticationError, ProbableAccessDeniedError)
"""The exceptions of pika for credentials that aren't valid (any more)."""


class ChannelUser(Protocol):
    """An object that has a channel of its own while there is a connection."""

    def opened(self, channel: Channel) -> None:
        """Take a fresh channel. Nothing of an earlier one is valid on it."""

    def refused(self, reason: BaseException) -> bool:
        """Return whether RabbitMQ closed the channel because it refuses a message of this user.

        Then the connection stays, and this user gets a new channel on it.
        """

    def closed(self, reason: BaseException) -> None:
        """Note that the connection is gone, and the channel with it."""


class ReconnectingConnection:
    """A connection that is kept until it is closed here; on each loss it is tried again, with growing random delays."""

    def __init__(
        self, parameters: pika.URLParameters, users: Sequence[ChannelUser], on_down: Callable[[BaseException], None]
    ) -> None:
        self._parameters = parameters
        self._users = users
        self._on_down = on_down
        self._connection: Any = None  # of pika, which ships no types
        self._retry: asyncio.TimerHandle | None = None
        self._patience: asyncio.TimerHandle | None = None
        self._waits = delays()
        self._opened_at = 0.0
        self._closing = False
        self._down = asyncio.Event()
        self._down.set()

    def open(self) -> None:
        """Start to connect; the users are told when their channels are there."""
        self._retry = None
        self._down.clear()
        try:
            self._connection = Connection(
                self._parameters,
                on_open_callback=self._opened,
                on_open_error_callback=self._lost,
                on_close_callback=self._lost,
            )
        except Exception as error:  # what this process lacks, such as a thread
            self._connection = None
            self._lost(None, error)
            return
        self._patience = asyncio.get_running_loop().call_later(_OPEN_LIMIT_S, self._give_up, self._connection)

    def renew(self, parameters: pika.URLParameters) -> None:
        """Connect with these parameters from the next time on.

        That is at once if there is no connection and none is being made.
        """
        self._parameters = parameters
        self._waits = delays()
        if self._retry is not None and not self._closing:
            self._retry.cancel()
            self.open()

    async def close(self) -> None:
        """Close for good, politely where the other side still answers."""
        self._closing = True
        if self._retry is not None:
            self._retry.cancel()
        if self._connection is not None and self._connection.is_open:
            self._connection.close()
            await asyncio.wait([asyncio.ensure_future(self._down.wait())], timeout=_CLOSE_LIMIT_S)

    def _give_up(self, connection: AsyncioConnection) -> None:
        """Count an attempt that takes too long as failed.

        pika says nothing of one that fails in a callback, for want of a file descriptor for example. It isn't closed
        here: pika's `close` amid the handshake ends in an AssertionError in a callback.
        """
        if connection is self._connection and not connection.is_open:
            self._lost(connection, TimeoutError(f"no connection within {_OPEN_LIMIT_S:.0f} s"))

    def _opened(self, connection: AsyncioConnection) -> None:
        if connection is not self._connection:  # it was given up
            connection.close()
            return
        self._opened_at = asyncio.get_running_loop().time()
        for user in self._users:
            self._open_channel(connection, user)

    def _open_channel(self, connection: AsyncioConnection, user: ChannelUser) -> None:
        connection.channel(on_open_callback=partial(self._channel_opened, user))

    def _channel_opened(self, user: ChannelUser, channel: Channel) -> None:
        channel.add_on_close_callback(partial(self._channel_closed, user))
        channel.add_on_cancel_callback(lambda _frame: channel.close())
        user.opened(channel)

    def _channel_closed(self, user: ChannelUser, channel: Channel, reason: Exception) -> None:
        # One way to recover, not two: a lost channel (queue deleted, delivery not acknowledged for too long) takes
        # the connection with it. A refused message is different: a new connection wouldn't help.
        if not channel.connection.is_open:
            return
        if user.refused(reason):
            self._open_channel(channel.connection, user)
        else:
            log.warning("A channel was closed: %s", reason)
            channel.connection.close()

    def _lost(self, connection: AsyncioConnection | None, reason: BaseException) -> None:
        if connection is not self._connection:  # it was given up
            return
        self._connection = None
        if self._patience is not None:
            self._patience.cancel()
        for user in self._users:
            user.closed(reason)
        self._down.set()
        if self._closing:
            return
        loop = asyncio.get_running_loop()
        if self._opened_at and loop.time() - self._opened_at > _STABLE_S:
            self._waits = delays()
        delay = next(self._waits)
        log.warning("No connection to the task queue's broker, next try in %.1f s: %s", delay, reason)
        self._retry = loop.call_later(delay, self.open)
        self._on_down(reason)
