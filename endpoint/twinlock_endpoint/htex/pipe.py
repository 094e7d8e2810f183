"""Messages between a pool and one of its workers, through a socket that the worker's functions can write into as well.

Each way: the length in 8 bytes, then the message. What a worker sends begins with a key, so that what a function writes
into all descriptors that it finds isn't taken for a message, or for the beginning of one.
"""

import secrets
import socket
import struct

_LENGTH = struct.Struct("!Q")
_LONGEST = 1 << 28  # bytes of a result, with much room
_CHUNK = 1 << 18
_SEND_S = 5  # without any progress: a worker that has no task reads at once


class PoolEnd:
    """The pool's end. Its methods don't wait for a worker that doesn't do its part."""

    def __init__(self, connection: socket.socket, key: bytes) -> None:
        self._socket = connection
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", _SEND_S, 0))
        self._key = key
        self._read = bytearray()
        self.misused = False
        """Whether the worker sent something that is no message."""

    def fileno(self) -> int:
        """Return the descriptor, for pollers."""
        return self._socket.fileno()

    def send(self, message: bytes) -> None:
        """Send all of a message. Raise `OSError` if the worker has gone or doesn't read."""
        self._socket.sendall(_LENGTH.pack(len(message)) + message)

    def receive(self) -> bytes | None:
        """Return the worker's next message; None while it isn't all there.

        Raise `OSError` at the end, or if what was sent is no message.
        """
        while True:
            message = self._next()
            if message is not None:
                return message
            try:
                read = self._socket.recv(_CHUNK, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return None
            if not read:
                raise ConnectionError("the worker has closed its connection")
            self._read += read

    def close(self) -> None:
        """Close this end."""
        self._socket.close()

    def _next(self) -> bytes | None:
        begin = len(self._key)
        if self._read[:begin] != self._key[: len(self._read)]:
            self.misused = True
            raise ConnectionError("the worker sent what is no message")
        head = begin + _LENGTH.size
        if len(self._read) < head:
            return None
        (length,) = _LENGTH.unpack_from(self._read, begin)
        if length > _LONGEST:
            raise ConnectionError("the worker sent too long a message")
        if len(self._read) < head + length:
            return None
        message = bytes(memoryview(self._read)[head : head + length])
        del self._read[: head + length]
        return message


class WorkerEnd:
    """The worker's end."""

    def __init__(self, connection: socket.socket, key: bytes) -> None:
        self._socket = connection
        self._key = key

    def fileno(self) -> int:
        """Return the descriptor, for whoever has to keep it open."""
        return self._socket.fileno()

    def send(self, message: bytes) -> None:
        """Send all of a message. Raise `OSError` if the pool has gone."""
        self._socket.sendall(self._key + _LENGTH.pack(len(message)) + message)

    def receive(self) -> bytes:
        """Wait for the pool's next message and return it. Raise `EOFError` at the end."""
        (length,) = _LENGTH.unpack(self._exactly(_LENGTH.size))
        return self._exactly(length)

    def close(self) -> None:
        """Close this end."""
        self._socket.close()

    def _exactly(self, size: int) -> bytes:
        read = bytearray(size)
        view = memoryview(read)
        while view:
            count = self._socket.recv_into(view)
            if not count:
                raise EOFError
            view = view[count:]
        return bytes(read)


def pair() -> tuple[PoolEnd, WorkerEnd]:
    """Return both ends of a new connection."""
    ours, theirs = socket.socketpair()
    key = secrets.token_bytes(16)
    return PoolEnd(ours, key), WorkerEnd(theirs, key)
