"""The lock of an endpoint's folder: one running endpoint at most uses a folder, and a folder in use isn't removed."""

import fcntl
import logging
import os
import platform
import time
from pathlib import Path

log = logging.getLogger(__name__)

_REMOVAL_S = 10.0
_POLL_S = 0.05
_held: dict[Path, int] = {}


class HeldError(Exception):
    """Another endpoint has the folder; the text says which process, and on which host."""


def hold(folder: Path) -> None:
    """Make the folder and mark it as in use, for as long as this process lives.

    What is held already stays so. Another endpoint may be about to remove it just now; then it is made again. Where
    locks don't work (ENOLCK), nobody removes anything.

    Raises:
        OSError: the folder can't be made.
        HeldError: another process holds it and goes on to.
    """
    if folder in _held:
        return
    end = time.monotonic() + _REMOVAL_S
    while True:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            lock = opened(folder)
        except FileNotFoundError:  # removed just now
            if time.monotonic() > end:
                raise
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if (folder / "lock").exists():
                os.truncate(lock, 0)
                os.write(lock, f"process {os.getpid()} on {platform.node()}".encode())
                _held[folder] = lock
                return
        except BlockingIOError:
            time.sleep(_POLL_S)
        except OSError as error:
            log.warning("The endpoint's folder can't be locked: %s", error.strerror)
            _held[folder] = lock
            return
        os.close(lock)
        if time.monotonic() > end:
            raise HeldError((folder / "lock").read_text())


def opened(folder: Path) -> int:
    """Return a descriptor of the folder's lock, which is made if there is none. Raise `OSError` if it can't be."""
    return os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
