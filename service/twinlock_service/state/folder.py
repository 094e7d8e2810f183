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
    """
    Makes the folder, and holds it: two services on one state would undo each other's work.

    StartError: there can be no such folder, or another service holds it.
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
