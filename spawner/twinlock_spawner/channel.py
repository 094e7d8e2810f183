"""The socket that the broker talks to: who may connect, and datagrams in and out."""

import array
import os
import pwd
import socket
import struct

from twinlock_shared import wire

_UCRED = struct.Struct("3i")  # pid, uid, gid: struct ucred of unix(7)


class ChannelError(Exception):
    """The peer broke the protocol or isn't the broker; the connection is of no more use."""


def listen(path: str, broker: pwd.struct_passwd) -> socket.socket:
    """A listening SOCK_SEQPACKET socket at `path` that root and the broker's group may connect to.

    By path and never abstract: permissions mean nothing on an abstract socket (unix(7)).
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.path.lexists(path):
        os.unlink(path)
    old = os.umask(0o177)
    try:
        listener.bind(path)
    finally:
        os.umask(old)
    os.chown(path, -1, broker.pw_gid)
    os.chmod(path, 0o660)
    listener.listen(1)
    listener.setblocking(False)
    return listener


class Channel:
    """The connection to one broker."""

    def __init__(self, connection: socket.socket, broker_uid: int) -> None:
        """Take `connection` over. Raises `ChannelError` unless the peer had the broker's uid when it connected."""
        connection.setblocking(False)
        self._socket = connection
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        self.pid, uid, _ = _UCRED.unpack(credentials)
        if uid != broker_uid:
            raise ChannelError(f"peer has uid {uid}, not the broker's {broker_uid}")

    def fileno(self) -> int:
        """For the selector."""
        return self._socket.fileno()

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def send(self, reply: wire.Reply) -> None:
        """Send `reply`. Raises `ChannelError` where the broker is gone, or reads so slowly that its buffer is full."""
        try:
            self._socket.send(wire.encode(reply), socket.MSG_NOSIGNAL)
        except OSError as error:
            raise ChannelError(f"send: {error}") from error

    def receive(self) -> tuple[wire.Request, list[int]] | None:
        """The next request with its file descriptors, which are the caller's then; None at the end of the connection.

        Raises `ChannelError`; no file descriptor of the message stays open then.
        """
        room = array.array("i").itemsize * (wire.SPAWN_FDS + 1)
        try:
            data, ancillary, flags, _ = self._socket.recvmsg(
                wire.MAX_DATAGRAM + 1, socket.CMSG_SPACE(room), socket.MSG_CMSG_CLOEXEC
            )
        except OSError as error:
            raise ChannelError(f"receive: {error}") from error
        fds = _descriptors(ancillary)
        try:
            if not data and not fds:
                return None
            return _checked(data, fds, flags)
        except (ChannelError, wire.WireError) as error:
            close_all(fds)
            raise ChannelError(str(error)) from error


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    fds = array.array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return list(fds)


def _checked(data: bytes, fds: list[int], flags: int) -> tuple[wire.Request, list[int]]:
    if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
        raise ChannelError("a message or its file descriptors were longer than allowed")
    request = wire.decode_request(data)
    if len(fds) != (wire.SPAWN_FDS if isinstance(request, wire.Spawn) else 0):
        raise ChannelError(f"{request.TYPE}: {len(fds)} file descriptors")
    return request, fds


def close_all(fds: list[int]) -> None:
    """Close file descriptors that came with a request."""
    for fd in fds:
        os.close(fd)
