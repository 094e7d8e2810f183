"""A firewall that forgets a connection in the middle of a message, and tells the ends that it was reset."""

import socket
import struct
import threading
from contextlib import suppress
from types import TracebackType

_AT_ONCE = struct.pack("@ii", 1, 0)  # SO_LINGER: close() resets the connection


class Firewall:
    """Carries what comes to a port of its own on loopback to another port there, and back.

    Who connected is told of a reset; the other end only if the firewall `tells_both`.
    """

    def __init__(self, port: int, *, tells_both: bool) -> None:
        self._tells_both = tells_both
        self._to = port
        self._left: int | None = None
        self._lock = threading.Lock()
        self._ends: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        """The port that is carried on."""
        self.forgot = threading.Event()
        """Set once a connection was reset."""

    def __enter__(self) -> "Firewall":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        for end in self._ends:
            _reset(end)

    def forget_after(self, size: int) -> None:
        """Reset the connection on which, from now on, the first so many bytes come through, and no other one."""
        with self._lock:
            self._left = size
            self.forgot.clear()

    def _accept(self) -> None:
        with suppress(OSError):  # shut down
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._to))
                self._ends += [near, far]
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=(source, sink, near, far), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket, near: socket.socket, far: socket.socket) -> None:
        with suppress(OSError):  # either end has gone
            while data := source.recv(1 << 16):
                if self._forgets(len(data)):
                    break
                sink.sendall(data)
        _reset(near)
        if self._tells_both:
            _reset(far)

    def _forgets(self, size: int) -> bool:
        with self._lock:
            if self._left is None:
                return False
            self._left -= size
            if self._left > 0:
                return False
            self._left = None
        self.forgot.set()
        return True


def _reset(end: socket.socket) -> None:
    with suppress(OSError):  # it was reset already
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        end.shutdown(socket.SHUT_RD)
        end.close()
