"""The file descriptors that a broker sends: which of them an endpoint gets, and how all are closed.

A broker that was taken over may send any. With some, close(2) waits or fails; others answer no question.
"""

import contextlib
import fcntl
import os
from typing import NoReturn

from twinlock_spawner.start import Start

_SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK
"""What a stdin has: nobody can change it any more, neither what it says nor how much."""


def check_stdio(start: Start) -> None:
    """Raise `ValueError` unless these are a memfd that is sealed and a pipe that can be written to.

    Not to be asked in the process that serves: a pipe doesn't answer while somebody writes to it out of a file that is
    mapped into memory, and whose file system doesn't answer.
    """
    with contextlib.suppress(OSError):  # it is something else
        seals = fcntl.fcntl(start.stdin, fcntl.F_GET_SEALS)
        fcntl.fcntl(start.output, fcntl.F_GETPIPE_SZ)  # fails for what is no pipe
        mode = fcntl.fcntl(start.output, fcntl.F_GETFL) & os.O_ACCMODE
        if seals & _SEALS == _SEALS and mode != os.O_RDONLY:
            return
    raise ValueError("stdin has to be a sealed memfd, and output a pipe")


def close_aside(files: list[int]) -> None:
    """Close files without waiting for a socket that lingers, be it in the queue of another, or for a pipe.

    With these, only the last close(2) may wait. So another process has copies meanwhile, and ends.
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
