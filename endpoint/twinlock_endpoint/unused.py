"""Folders of user endpoints that nobody has used for long: each configuration leaves one in the user's home."""

import fcntl
import logging
import os
import platform
import re
import shutil
import threading
import time
from pathlib import Path

log = logging.getLogger(__name__)

_NAME = re.compile(r"uep\.[0-9a-f-]{36}\.[0-9a-f-]{36}")
_DAY_S = 86400
_REMOVAL_S = 10.0
_POLL_S = 0.05
_held: list[int] = []


class HeldError(Exception):
    """Another endpoint has the folder; the text says which process, and on which host."""


def hold(folder: Path) -> None:
    """Make the folder and mark it as in use, for as long as this process lives. OSError where it can't be made,
    HeldError where another process holds it and goes on to.

    Another endpoint may be about to remove it just now; then it is made again. Where locks don't work (ENOLCK), nobody
    removes anything.
    """
    end = time.monotonic() + _REMOVAL_S
    while True:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:  # removed just now
            if time.monotonic() > end:
                raise
            continue
        _held.append(lock)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if (folder / "lock").exists():
                os.truncate(lock, 0)
                os.write(lock, f"process {os.getpid()} on {platform.node()}".encode())
                return
        except BlockingIOError:
            time.sleep(_POLL_S)
        except OSError as error:
            log.warning("The endpoint's folder can't be locked: %s", error.strerror)
            return
        if time.monotonic() > end:
            raise HeldError((folder / "lock").read_text())
        os.close(_held.pop())


def clean(base: Path, own: Path, days: float) -> None:
    """Remove the folders of endpoints in `base` but `own` whose log is older than so many days, in a thread.

    What tasks wrote into their working directory there goes with them; so nothing is removed unless the site asks.
    """
    before = time.time() - days * _DAY_S
    found = [path for path in base.glob("uep.*") if path != own and _NAME.fullmatch(path.name)]
    threading.Thread(target=_remove_old, args=(found, before), name="clean", daemon=True).start()


def _remove_old(folders: list[Path], before: float) -> None:
    for folder in folders:
        try:
            if not folder.is_symlink() and _last_used(folder) < before and _remove(folder):
                log.info("The folder of an endpoint that wasn't used for long was removed: %s", folder.name)
        except OSError as error:
            log.warning("%s can't be removed: %s", folder.name, error.strerror)


def _last_used(folder: Path) -> float:
    logs = [path.stat().st_mtime for path in folder.glob("endpoint.log*")]
    return max(logs, default=folder.stat().st_mtime)


def _remove(folder: Path) -> bool:
    """Remove it unless an endpoint holds it; one that never had a lock is older than this version."""
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder)
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
    return True
