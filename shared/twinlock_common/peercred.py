"""Which process is at the other end of a Unix socket, by the kernel's word (SO_PEERCRED, unix(7))."""

import socket
import struct
from typing import NamedTuple

_UCRED = struct.Struct("3i")
"""struct ucred (unix(7)): pid, uid, gid."""


class Peer(NamedTuple):
    """The process that connected, or that listened when it was connected to, and its effective uid then."""

    pid: int
    uid: int

    @property
    def is_root(self) -> bool:
        """Whether that is root's process."""
        return self.uid == 0


def peer_of(sock: socket.socket) -> Peer:
    """Who is at the other end of `sock`. Raises `OSError`."""
    pid, uid, _ = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return Peer(pid, uid)
