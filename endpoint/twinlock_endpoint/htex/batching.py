"""Messages that may wait for each other: each that is sent alone wakes up several threads and processes."""

import time
from collections.abc import Callable

_MOST = 8
_WAIT_S = 0.002


class Together:
    """Messages that are handed to `send` some at a time: after so many, or after so long.

    Whoever has nothing else to do calls `flush`.
    """

    def __init__(self, send: Callable[[bytes], object]) -> None:
        self._send = send
        self._waiting: list[bytes] = []
        self.due = float("inf")
        """When `flush` should be called, by the monotonic clock."""

    def send(self, message: bytes) -> None:
        """Send a message before long."""
        if not self._waiting:
            self.due = time.monotonic() + _WAIT_S
        self._waiting.append(message)
        if len(self._waiting) >= _MOST:
            self.flush()

    def flush(self) -> None:
        """Send what waits."""
        waiting, self._waiting, self.due = self._waiting, [], float("inf")
        for message in waiting:
            self._send(message)
