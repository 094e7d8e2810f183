"""The report to the manager endpoint whether there are tasks that only this endpoint's journal has.

Should this endpoint die while there are, the manager endpoint starts another, which reads the journal.
"""

import asyncio
from collections.abc import Callable

_QUIET_S = 1.0


class Backlog:
    """The number of tasks in the journal, as it is passed to `tell`: the first at once, before the queue may forget it.

    That there is none any more is told only when it stays so for a moment, or each short task would be told of.
    """

    def __init__(self, tell: Callable[[int], None]) -> None:
        self._tell = tell
        self._tasks = 0
        self._told = 0
        self._timer: asyncio.TimerHandle | None = None

    def changed(self, tasks: int) -> None:
        """Note the number of tasks, and tell it if it is the first one or none."""
        self._tasks = tasks
        if tasks and not self._told:
            self.say()
        elif not tasks and self._told and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_QUIET_S, self._consider)

    def say(self) -> None:
        """Tell the number of tasks now."""
        self._told = self._tasks
        self._tell(self._tasks)

    def _consider(self) -> None:
        self._timer = None
        if not self._tasks:
            self.say()
