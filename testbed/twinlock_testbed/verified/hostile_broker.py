"""A broker that was taken over: under the broker's account, it has the spawner start whatever it is told.

Its argument is the spawner's socket. It reads a JSON object a line from stdin, {id, user, name, program, document}, and
prints one for each: {pid}, or {refused}, a text. For {id, ..., "wait": true} it waits until what it started has ended,
and prints what that said as well: {pid, said}.
"""

import fcntl
import json
import os
import socket
import sys
from typing import Any

from twinlock_wire import wire

_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_LIMIT = 60.0
"""Seconds for the spawner to answer."""


class Spawner:
    """The connection to the spawner, which takes it for the broker's: the account is."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(_LIMIT)
        self._socket.connect(path)
        self._outputs: list[int] = []

    def start(self, order: dict[str, Any]) -> dict[str, Any]:
        """Return what became of an order."""
        reading, writing = os.pipe()
        document = _sealed(json.dumps(order["document"]).encode())
        request = wire.Spawn(order["id"], order["user"], order["name"], order["program"])
        socket.send_fds(self._socket, [wire.encode(request)], [document, writing])
        os.close(document)
        os.close(writing)
        reply = self._reply(order["id"])
        if isinstance(reply, wire.Refused):
            os.close(reading)
            return {"refused": f"{reply.stage}: {reply.reason}"}
        if not order.get("wait"):
            self._outputs.append(reading)  # open as long as this program runs
            return {"pid": reply.pid}
        with os.fdopen(reading) as output:
            return {"pid": reply.pid, "said": output.read()}

    def _reply(self, endpoint: str) -> wire.Spawned | wire.Refused:
        """Return the answer about an endpoint, and pass over what the spawner says about others."""
        while True:
            reply = wire.decode(self._socket.recv(wire.MAX_DATAGRAM), wire.REPLIES)
            if isinstance(reply, wire.Spawned | wire.Refused) and reply.id == endpoint:
                return reply


def _sealed(content: bytes) -> int:
    """Return a file descriptor of a start document."""
    descriptor = os.memfd_create("document", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with open(descriptor, "wb", closefd=False) as file:
        file.write(content)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def main() -> None:
    """Do what stdin says, until it ends."""
    spawner = Spawner(sys.argv[1])
    for line in sys.stdin:
        print(json.dumps(spawner.start(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
