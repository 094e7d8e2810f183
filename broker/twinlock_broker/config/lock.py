"""The lock of a state folder: two brokers would carry out the same commands and overwrite each other's records."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from twinlock_broker.errors import Fatal

PATIENCE = 5.0
"""Seconds to wait for a broker that is about to end, as in a restart."""

_PAUSE = 0.1
"""Seconds between two attempts to take the lock."""


@contextlib.contextmanager
def locked(state: Path) -> Iterator[None]:
    """Hold the lock of the folder `state` during the block.

    Raises:
        Fatal: 75, another broker has it; 73, there can be no lock file in the folder.
    """
    path = state / "broker.lock"
    with contextlib.ExitStack() as stack:
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            stack.callback(os.close, file)
            if not _take(file):
                text = f"{state} is in use by another twinlock-broker; stop that one, or choose another --state"
                raise Fatal(os.EX_TEMPFAIL, text)
        except OSError as error:
            raise Fatal(
                os.EX_CANTCREAT, f"{path}: {error.strerror}; give --state a folder that the broker owns"
            ) from error
        yield


def _take(file: int) -> bool:
    """Lock `file`. Return False if another process still has the lock after `PATIENCE` seconds."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(_PAUSE)
        else:
            return True
