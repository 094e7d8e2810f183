"""The number of tasks that the endpoint takes: as many as its engine needs.

That is a limit of its own, since a task is acknowledged as soon as it is safe. What is delivered beyond it waits here
and isn't acknowledged, so the queue sends no more. RabbitMQ closes a channel on which a delivery waits for half an
hour. So after a part of that the deliveries go back and none is asked for, until there is room for some.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from twinlock_common.amqp.consumer import Message

from twinlock_endpoint.queues.consumer import TaskConsumer
from twinlock_endpoint.tasks.ledger import Ledger

log = logging.getLogger(__name__)

HELD_S = 600.0
"""Longest time that a delivery waits here."""

_UNCONFIRMED = 4  # times the window: tasks of which most wait for the confirmation of their results


@dataclass(frozen=True, slots=True)
class _Waiting:
    task_id: str
    delivery: Message
    since: float


def window_size(max_workers: int) -> int:
    """Return the most tasks that are taken and have no result.

    A worker that ends a task needs the next one here already, and Parsl asks for more blocks only if tasks wait: so it
    is a few for each worker. It is at least 32, which hides the round trip of short tasks, and has a limit, since each
    task may hold 10 MiB.
    """
    return min(65535, max(32, 4 * max_workers))


class Window:
    """The gate through which deliveries go to `take`, open while fewer than `size` tasks have no result."""

    def __init__(
        self,
        consumer: TaskConsumer,
        ledger: Ledger,
        size: int,
        take: Callable[[str, Message], None],
        held_s: float = HELD_S,
    ) -> None:
        self._consumer = consumer
        self._ledger = ledger
        self._size = size
        self._take = take
        self._held_s = held_s
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[_Waiting] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._asking: asyncio.Task[None] | None = None
        self._paused = False
        self._ended = False

    def offer(self, task_id: str, delivery: Message) -> None:
        """Take a delivery as soon as there is room for it."""
        if self._ledger.again(task_id, delivery):
            return
        self._waiting.append(_Waiting(task_id, delivery, self._loop.time()))
        self.pump()

    def pump(self) -> None:
        """Take what there is room for."""
        while self._waiting and self._room() > 0 and not self._ended:
            first = self._waiting.popleft()
            if not self._ledger.again(first.task_id, first.delivery):
                self._take(first.task_id, first.delivery)
        if self._waiting and self._timer is None:
            self._watch()
        if self._paused and self._room() >= max(1, self._size // 4):
            self._paused = False
            self._asking = self._loop.create_task(self._consumer.resume(self._room()))

    def lost(self) -> None:
        """Forget what waits here: its channel is gone.

        It comes again on the next channel, which is asked for tasks at once.
        """
        self._waiting.clear()
        self._paused = False

    def end(self) -> None:
        """Take no more; what waits goes back to the queue with the connection's end."""
        self._ended = True

    def _room(self) -> int:
        return min(self._size - self._ledger.without_result, _UNCONFIRMED * self._size - len(self._ledger))

    def _watch(self) -> None:
        self._timer = self._loop.call_at(self._waiting[0].since + self._held_s, self._look)

    def _look(self) -> None:
        self._timer = None
        if not self._waiting or self._ended:
            return
        if self._waiting[0].since + self._held_s <= self._loop.time():
            self._asking = self._loop.create_task(self._give_back())
        else:
            self._watch()

    async def _give_back(self) -> None:
        """Give what waits back to the queue, which then delivers nothing until there is room."""
        if not await self._consumer.pause():
            return
        log.info("The engine is busy; %d tasks go back to the queue until it isn't", len(self._waiting))
        for one in self._waiting:
            one.delivery.requeue()
        self._waiting.clear()
        self._paused = True
        self.pump()
