"""How many connections there may be.

A connection too many isn't refused. The one that has been silent for longest of those with the same peer is closed
instead, so that neither forgotten connections nor requests sent by halves keep anybody out. Requests that are being
served are not interrupted.
"""

from __future__ import annotations

import resource
from typing import Generic, Protocol, TypeVar

MOST_OF_PEER = 500
"""
Connections at a time with one peer.

It is more than are accepted at once, so that one whose request is on its way isn't the oldest before it is read.
"""


class Closable(Protocol):
    """What can be ended at once, if it isn't busy."""

    busy: bool
    """It is at work, and is closed only if there is no other choice."""

    def abort(self) -> None:
        """Close it at once."""


C = TypeVar("C", bound=Closable)


class Connections(Generic[C]):
    """The open connections, the one that has been silent for longest first."""

    def __init__(self, most: int, most_of_peer: int) -> None:
        self._most = most
        self._most_of_peer = most_of_peer
        self._peers: dict[C, str] = {}
        self._of_peer: dict[str, dict[C, None]] = {}  # the connection that was silent for longest comes first

    def opened(self, connection: C, peer: str) -> None:
        """Count a new connection. Close another one if there are too many now."""
        self._peers[connection] = peer
        of_peer = self._of_peer.setdefault(peer, {})
        of_peer[connection] = None
        if len(of_peer) > self._most_of_peer:
            self._close_one(of_peer)
        elif len(self._peers) > self._most:
            self._close_one(max(self._of_peer.values(), key=len))

    def active(self, connection: C) -> None:
        """Note that something was sent or received."""
        peer = self._peers.get(connection)
        if peer is not None:
            of_peer = self._of_peer[peer]
            of_peer[connection] = of_peer.pop(connection)

    def closed(self, connection: C) -> None:
        """Count a connection no longer: it is closed."""
        peer = self._peers.pop(connection, None)
        if peer is not None:
            del self._of_peer[peer][connection]
            if not self._of_peer[peer]:
                del self._of_peer[peer]

    def _close_one(self, of_peer: dict[C, None]) -> None:
        silent = next((each for each in of_peer if not each.busy), next(reversed(of_peer)))
        self.closed(silent)
        silent.abort()


def raise_descriptor_limit() -> None:
    """Raise this process's limit of file descriptors to its hard limit, also for the processes that it starts."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
