"""File descriptors: the broker takes as many as it can get, and keeps some for its own work.

Every connection to a socket of the broker's costs one. If all of them were taken, no endpoint could be started, no new
connection to RabbitMQ could be made, and no user could be notified.
"""

import resource
import select
import time
from collections.abc import Sequence
from typing import IO

RESERVED = 768
"""Descriptors that no connection gets: 128 commands in work need up to four each, 32 notices under way one each."""

_GIVEN = resource.getrlimit(resource.RLIMIT_NOFILE)


def take_all() -> None:
    """Raise this process's limit of descriptors to the hard limit."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (_GIVEN[1], _GIVEN[1]))


def with_usual(argv: Sequence[str]) -> list[str]:
    """Return the command that runs `argv` with the limit that this process was started with.

    Programs of a site may use select(2), which knows descriptors below 1024 only, or close all that there might be. A
    shell sets the limit: preexec_fn isn't safe beside threads, and prlimit(2) would come after the program's start.
    """
    return ["/bin/sh", "-c", f'ulimit -Sn {_GIVEN[0]}; exec "$@"', "sh", *argv]


def reserved(descriptor: int) -> bool:
    """Return whether a new connection's `descriptor` is one of those that are kept.

    The kernel gives the lowest free one.
    """
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return descriptor >= most - min(RESERVED, most // 2)


def readable(stream: IO[bytes], deadline: float) -> bool:
    """Return whether `stream` has something to read, or has ended, before `deadline` (time.monotonic())."""
    poll = select.poll()
    poll.register(stream, select.POLLIN)
    return bool(poll.poll(1000 * max(0.0, deadline - time.monotonic())))
