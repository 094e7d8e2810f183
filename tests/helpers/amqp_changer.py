"""A way to RabbitMQ on which somebody sits who changes what comes: whoever has got past TLS, or where there is none."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO
from urllib.parse import urlsplit

_HEAD = 7
"""Bytes before a frame's payload (AMQP 0-9-1, 2.3.5): type, channel, and the payload's size in the last four."""

_GREETING = 8
"""Bytes with which a client begins, before its first frame (2.2.4): the protocol's name and version."""


class Changer:
    """Carries what comes to `address` to RabbitMQ; in frames of both sides it puts one text in the place of another."""

    def __init__(self, url: str, before: bytes, after: bytes) -> None:
        """Carry connections to the RabbitMQ at `url`. Both texts have the same length, as frames say theirs."""
        assert len(before) == len(after)
        parts = urlsplit(url)
        assert parts.port is not None
        self._to = (parts.hostname, parts.port)
        self._texts = (before, after)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        """Where it listens."""
        self.url = url.replace(f"{parts.hostname}:{parts.port}", self.address)
        """As which endpoints are told of RabbitMQ."""
        self.changed = 0
        """Frames that were changed."""

    def run(self) -> None:
        """Carry connections until `close`."""
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._to)
                for carry, of in ((self._forth, (near, far)), (self._back, (far, near))):
                    threading.Thread(target=carry, args=of, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _forth(self, near: socket.socket, far: socket.socket) -> None:
        with suppress(OSError, EOFError), far, near.makefile("rb") as frames:
            far.sendall(_exactly(frames.read(_GREETING), _GREETING))
            self._carry(frames, far)

    def _back(self, far: socket.socket, near: socket.socket) -> None:
        with suppress(OSError, EOFError), near, far.makefile("rb") as frames:
            self._carry(frames, near)

    def _carry(self, frames: IO[bytes], to: socket.socket) -> None:
        while True:
            head = _exactly(frames.read(_HEAD), _HEAD)
            length = int.from_bytes(head[3:], "big") + 1
            to.sendall(head + self._change(_exactly(frames.read(length), length)))

    def _change(self, payload: bytes) -> bytes:
        before, after = self._texts
        self.changed += before in payload
        return payload.replace(before, after)


def _exactly(data: bytes, length: int) -> bytes:
    if len(data) < length:
        raise EOFError
    return data


@contextmanager
def changer(url: str, before: bytes, after: bytes) -> Iterator[Changer]:
    """Run one."""
    made = Changer(url, before, after)
    carrying = threading.Thread(target=made.run)
    carrying.start()
    try:
        yield made
    finally:
        made.close()
        carrying.join()
