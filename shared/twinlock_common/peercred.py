"""The process at the other end of a Unix socket, as the kernel knows it (SO_PEERCRED, unix(7))."""

import socket
import struct
from typing import NamedTuple

_UCRED = struct.Struct("3i")
"""struct ucred (unix(7)): pid, uid, gid."""


class Peer(NamedTuple):
    """The process at the other end of a socket, as of the connect(2) or listen(2) call."""

    pid: int
    uid: int
    """Its effective uid."""

    @property
    def is_root(self) -> bool:
        """Whether it is a process of root."""
        return self.uid == 0


def peer_of(sock: socket.socket) -> Peer:
    """Return who is at the other end of `sock`. Raise `OSError`."""
    pid, uid, _ = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return Peer(pid, uid)
