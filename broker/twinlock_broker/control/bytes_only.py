"""Connections through which no file descriptors come in: receiving them can hold up whoever does.

Anybody can send them along with bytes (SCM_RIGHTS, unix(7)). If the receiver has no room for them, the kernel closes
them in the receiver's name; so it does when a connection is closed that still has unread ones. The last close(2) of a
TCP socket with SO_LINGER takes as long as its sender likes, and so does that of a file on the sender's own FUSE.
"""

import contextlib
import errno
import socket
import threading

MOST_CLOSING = 256
"""Connections with descriptors in them whose closing may take its time at once, each in a thread."""

_SO_PASSRIGHTS = 83  # asm-generic/socket.h, since Linux 6.16; the module socket doesn't have it

_AT_ONCE = 1 << 16

_closing: set["BytesOnly"] = set()


def refuse_descriptors(listener: socket.socket) -> None:
    """Have the kernel refuse descriptors that are sent to connections of `listener`, if it is new enough for that."""
    with contextlib.suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, _SO_PASSRIGHTS, 0)


def crowded() -> bool:
    """Return whether as many connections are being closed as may be: then no other one should be accepted."""
    return len(_closing) >= MOST_CLOSING


class BytesOnly(socket.socket):
    """A connection that looks at what comes before it takes it."""

    def __init__(self, accepted: socket.socket) -> None:
        """Take the place of `accepted`."""
        super().__init__(fileno=accepted.detach())
        self.setblocking(False)
        # Otherwise a byte that was sent with MSG_OOB would be dropped unseen, and its descriptors with it.
        self.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Receive as any socket does. Raise `ConnectionAbortedError` if descriptors come next.

        These stay where they are.
        """
        ahead, _, seen, _ = self.recvmsg(size, 0, flags | socket.MSG_PEEK)
        if seen & socket.MSG_CTRUNC:
            raise ConnectionAbortedError(errno.ECONNABORTED, "it sent file descriptors")
        return super().recv(len(ahead), flags) if ahead else b""

    def close(self) -> None:
        """End the connection; in a thread, if descriptors wait in it."""
        if self.fileno() < 0 or self in _closing:
            return
        with contextlib.suppress(OSError):
            self.shutdown(socket.SHUT_RDWR)  # from now on nothing more comes
        if self._has_bytes_only():
            super().close()
        else:
            _closing.add(self)
            threading.Thread(target=self._close, name="close", daemon=True).start()

    def _has_bytes_only(self) -> bool:
        try:
            while self.recv(_AT_ONCE):
                pass
        except ConnectionAbortedError:
            return False
        except OSError:  # its other end has gone, and left nothing
            return True
        return True

    def _close(self) -> None:
        super().close()
        _closing.discard(self)
