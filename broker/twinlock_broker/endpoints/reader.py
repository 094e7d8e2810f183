"""The processes that read what endpoints print: one for each pipe, since a read may never return and can't be killed.

A pipe's writer decides how long a write(2) to it takes: the data may lie in memory that is mapped from a file of the
writer's own FUSE. All the while the kernel holds the pipe's mutex, for which others wait in read(2), open(2) and the
last close(2), and no signal ends that.

Stdin is a socket of the broker's. A message there is the path of a pipe with one or two descriptors: the socket that
gets what is read; and, if nobody else has the pipe yet, its reading end. Each pipe is read in a fork of this process.
Nothing but the standard library is needed here, so that the forks are small.
"""

import contextlib
import os
import select
import signal
import socket
import sys

READY = b"+"
"""The first byte through each socket: the pipe is open in its fork, and in no other of these processes."""

FINISH = b"."
"""The broker's order to pass on what is in the pipe, and to end. If the broker has ended, that is left to the next."""

CHUNK = 1 << 16
_MOST = 16
"""Chunks that are read at the end, as much as a pipe can hold: whoever kept it open can't hold us up by writing on."""


def main() -> None:
    """Fork a process for each pipe until stdin ends, which it does with the broker."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a service manager sends it to all at once; the broker reads on
    orders = socket.socket(fileno=sys.stdin.fileno())
    while True:
        path, descriptors, _, _ = socket.recv_fds(orders, CHUNK, 2)
        if not descriptors:
            return
        with contextlib.suppress(OSError):  # no process can be started: the broker sees its socket end
            _fork(orders, path, descriptors)
        os.close(descriptors[0])


def _fork(orders: socket.socket, path: bytes, descriptors: list[int]) -> None:
    broker, *pipe = descriptors
    try:
        if os.fork() == 0:
            orders.close()
            _be_reader(socket.socket(fileno=broker), path, pipe)
    finally:
        for end in pipe:
            os.close(end)
    if pipe:
        os.write(broker, READY)


def _be_reader(broker: socket.socket, path: bytes, pipe: list[int]) -> None:
    """Read a pipe in this fork. Never return; whatever fails is the end."""
    try:
        if not pipe:
            pipe = [os.open(path, os.O_RDONLY | os.O_NONBLOCK)]
            broker.sendall(READY)
        _pass_on(pipe[0], broker)
    finally:
        os._exit(os.EX_OK)


def _pass_on(pipe: int, broker: socket.socket) -> None:
    """Pass on what comes out of `pipe`, until its last writer has closed it, or the broker wants no more."""
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    poll.register(broker, select.POLLIN)
    wanted = True
    while wanted:  # reads first: poll(2) reports no end of a pipe that no writer has opened since we opened it
        with contextlib.suppress(BlockingIOError):
            if not _pass_chunk(pipe, broker):
                return
        wanted = broker.fileno() not in dict(poll.poll())
    if broker.recv(len(FINISH)):
        for _ in range(_MOST):
            if not _pass_chunk(pipe, broker):
                return


def _pass_chunk(pipe: int, broker: socket.socket) -> bool:
    """Pass on what one read gives. Return whether there was anything."""
    data = os.read(pipe, CHUNK)
    broker.sendall(data)
    return bool(data)


if __name__ == "__main__":
    main()
