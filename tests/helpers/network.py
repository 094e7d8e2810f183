"""A network that can be cut: then nothing comes through in either direction, and neither end is told."""

import socket
import threading
from contextlib import suppress
from types import TracebackType


class Network:
    """Carries what comes to a port of its own on loopback to another port there, and back."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._whole = threading.Event()
        self._whole.set()
        self._ends: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        """The port that is carried on."""

    def __enter__(self) -> "Network":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.mend()
        self._listener.shutdown(socket.SHUT_RDWR)
        for end in self._ends:
            _hang_up(end)

    def cut(self) -> None:
        """From now on nothing comes through, the end of a connection included."""
        self._whole.clear()

    def mend(self) -> None:
        """What was held up comes through."""
        self._whole.set()

    def _accept(self) -> None:
        with suppress(OSError):  # shut down
            while True:
                near, _ = self._listener.accept()
                self._whole.wait()
                far = socket.create_connection(("127.0.0.1", self._to))
                self._ends += [near, far]
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=(source, sink), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):  # either end has gone
            while data := source.recv(1 << 16):
                self._whole.wait()
                sink.sendall(data)
        self._whole.wait()
        _hang_up(sink)


def _hang_up(end: socket.socket) -> None:
    with suppress(OSError):  # it has gone
        end.shutdown(socket.SHUT_RDWR)
