"""The file descriptors that a broker sends: which of them an endpoint gets, and how all are closed.

A broker that was taken over may send any. With some, close(2) waits or fails.
"""

import contextlib
import fcntl
import os
from typing import NoReturn

_SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW
"""What a stdin has: nobody can change it any more, neither what it says nor how much."""


def are_stdio(files: list[int]) -> bool:
    """Whether the files are a memfd that is sealed, for stdin, and a pipe that can be written to, for output.

    No call here asks a file system, as fstat(2) would: one may not answer.
    """
    try:
        stdin, output = files
        seals = fcntl.fcntl(stdin, fcntl.F_GET_SEALS)
        fcntl.fcntl(output, fcntl.F_GETPIPE_SZ)  # fails for what is no pipe
        mode = fcntl.fcntl(output, fcntl.F_GETFL) & os.O_ACCMODE
    except (OSError, ValueError):  # it is something else, or not two
        return False
    return seals & _SEALS == _SEALS and mode != os.O_RDONLY


def close_received(files: list[int]) -> None:
    """Close what came with a datagram. Memory and pipes close at once."""
    if are_stdio(files):
        _close(files)
    elif files:
        close_aside(files)


def close_aside(files: list[int]) -> None:
    """Close files without waiting for a socket that lingers, be it one of them or in the queue of one.

    A socket lingers in its last close(2), unless that comes with the end of a process: socket(7), SO_LINGER. So another
    process has copies meanwhile, and ends.
    """
    ends: list[int] = []
    with contextlib.suppress(OSError):  # there is no room for a process; the files have to be closed all the same
        ends.extend(os.pipe())
        if os.fork() == 0:
            _hold_copies(*ends)
    _close([*files, *ends])


def _close(files: list[int]) -> None:
    for file in files:
        with contextlib.suppress(OSError):  # it is closed, and what couldn't be written (EIO, EDQUOT) is its sender's
            os.close(file)


def _hold_copies(reader: int, writer: int) -> NoReturn:
    """End when the other process has closed the pipe, which it does last."""
    try:
        os.close(writer)
        os.read(reader, 1)
    finally:
        os._exit(os.EX_OK)
