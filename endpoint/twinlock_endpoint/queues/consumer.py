"""The tasks from the queue."""

import asyncio
import contextlib
from collections.abc import Callable

from twinlock_common.amqp.consumer import Consumer, Message
from twinlock_common.amqp.errors import LinkError
from twinlock_common.amqp.link import Link


class TaskConsumer:
    """The consumer of one queue, with at most `prefetch` deliveries unacknowledged."""

    def __init__(
        self,
        queue: str,
        prefetch: int,
        on_delivery: Callable[[Message], None],
        on_ready: Callable[[], None],
        on_lost: Callable[[], None],
    ) -> None:
        """Prepare to consume the queue.

        `on_ready` is called when tasks come from now on; `on_lost` when what was delivered and not acknowledged will
        come again.
        """
        self.queue = queue
        """The queue that is consumed; a new name counts from the next connection on."""
        self._prefetch = prefetch
        self._on_delivery = on_delivery
        self._on_ready = on_ready
        self._on_lost = on_lost
        self._wanted = asyncio.Event()
        self._turn = asyncio.Lock()  # pika never answers a second request to stop
        self._consumer: Consumer | None = None
        self._ending: asyncio.Task[bool] | None = None

    def begin(self) -> None:
        """Take tasks from now on, or from when there is a connection."""
        self._wanted.set()

    def end(self) -> None:
        """Ask for no more tasks; those that are on their way may still arrive."""
        self._wanted.clear()
        self._ending = asyncio.get_running_loop().create_task(self.pause())

    async def pause(self) -> bool:
        """Ask for no more tasks for now, and wait until none is on its way.

        Return False if none is asked for anyway, or if the connection ends first.
        """
        async with self._turn:
            paused = self._consumer
            if paused is None or not paused.is_started:
                return False
            with contextlib.suppress(LinkError):
                await paused.stop()
            return paused is self._consumer

    async def resume(self, prefetch: int) -> None:
        """Take tasks again, with at most `prefetch` unacknowledged. Over the next connection `use` takes them."""
        async with self._turn:
            if self._consumer is None or self._consumer.is_started or not self._wanted.is_set():
                return
            with contextlib.suppress(LinkError):
                await self._consumer.start(min(prefetch, self._prefetch))

    async def use(self, link: Link) -> None:
        """Take tasks over this connection until it ends. Raise `LinkError`."""
        await self._wanted.wait()
        try:
            async with self._turn:
                self._consumer = await link.consume(self.queue, self._prefetch, self._on_delivery)
            self._on_ready()
            await link.closed()
        finally:
            self._consumer = None
            self._on_lost()
