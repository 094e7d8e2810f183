"""The folder for all that must survive a restart: one service has it at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from twinlock_service.errors import StartError
from twinlock_service.state.private_files import open_private


@contextmanager
def state_folder(state: Path) -> Iterator[None]:
    """Make the folder, and lock it while the block runs: two services on one state would undo each other's work.

    Raise `StartError` if the folder can't be made, or another service has locked it.
    """
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = open_private(state / "lock")
    except OSError as error:
        raise StartError(os.EX_CANTCREAT, f"--state {state}: {error.strerror}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            text = f"--state {state} is in use by another twinlock-service; stop that one, or choose another folder"
            raise StartError(os.EX_TEMPFAIL, text) from None
        yield
