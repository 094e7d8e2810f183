"""Which tasks this endpoint owes an answer, and when the queue may forget them.

The one place that decides about acknowledgements: a task is acknowledged when its result was confirmed. Until then the
queue holds it, so that it comes again when the connection or this endpoint is lost.
"""

from collections import OrderedDict
from collections.abc import Callable

from twinlock_endpoint.consumer import Delivery


class Ledger:
    """Tasks between delivery and acknowledgement, by task id."""

    def __init__(self, acknowledge: Callable[[Delivery], None], prefetch: int) -> None:
        self._acknowledge = acknowledge
        self._open: dict[str, Delivery] = {}
        self._answered: set[str] = set()
        # An acknowledgement may be lost with its connection. The queue holds at most `prefetch` deliveries, so only
        # the last so many acknowledged ones can come again.
        self._settled: OrderedDict[str, None] = OrderedDict()
        self._remember = prefetch
        self.received = 0
        self.settled = 0

    def __len__(self) -> int:
        return len(self._open)

    def receive(self, task_id: str, delivery: Delivery) -> bool:
        """Note a delivery. True where the task is new and has to run; known ones only get a fresh delivery."""
        if task_id in self._settled:
            self._acknowledge(delivery)
            return False
        new = task_id not in self._open
        self._open[task_id] = delivery
        self.received += new
        return new

    def answer(self, task_id: str) -> bool:
        """Claim the right to answer a task: True for exactly one caller."""
        if task_id not in self._open or task_id in self._answered:
            return False
        self._answered.add(task_id)
        return True

    def unanswered(self) -> list[str]:
        """The tasks that nobody has answered yet."""
        return [task_id for task_id in self._open if task_id not in self._answered]

    def settle(self, task_id: str) -> None:
        """The task's result is safe: acknowledge it."""
        self._answered.discard(task_id)
        self._acknowledge(self._open.pop(task_id))
        self.settled += 1
        self._settled[task_id] = None
        if len(self._settled) > self._remember:
            self._settled.popitem(last=False)
