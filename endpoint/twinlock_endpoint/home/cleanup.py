"""The removal of user endpoints' folders that are long unused: each configuration leaves one in the user's home."""

import fcntl
import logging
import os
import re
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

from twinlock_endpoint.home import lock

log = logging.getLogger(__name__)

_NAME = re.compile(r"uep\.[0-9a-f-]{36}\.[0-9a-f-]{36}")
_DAY_S = 86400


def clean(base: Path, own: Path, days: float, is_needed: Callable[[Path], bool]) -> None:
    """Remove the folders of endpoints in `base` but `own` that weren't used for `days` days, in a thread.

    What tasks wrote into their working directory there goes with them; so nothing is removed unless the site asks.
    `is_needed` returns whether a folder, which no endpoint holds then, has something that a later endpoint has to find.
    """
    before = time.time() - days * _DAY_S
    found = [path for path in base.glob("uep.*") if path != own and _NAME.fullmatch(path.name)]
    threading.Thread(target=_remove_old, args=(found, before, is_needed), name="clean", daemon=True).start()


def _remove_old(folders: list[Path], before: float, is_needed: Callable[[Path], bool]) -> None:
    for folder in folders:
        try:
            if not folder.is_symlink() and _last_used(folder) < before and _remove(folder, is_needed):
                log.info("The folder of an endpoint that wasn't used for long was removed: %s", folder.name)
        except OSError as error:
            log.warning("%s can't be removed: %s", folder.name, error.strerror)


def _last_used(folder: Path) -> float:
    """Return when something was last written there, in seconds of the epoch.

    Each start writes, and so does each task, whatever name the log has, and wherever it is.
    """
    written = [folder, *folder.iterdir(), *(folder / "journal").glob("*")]
    return max(path.lstat().st_mtime for path in written)


def _remove(folder: Path, is_needed: Callable[[Path], bool]) -> bool:
    """Remove a folder unless an endpoint holds it, or it is needed.

    A folder that never had a lock is older than this version.
    """
    held = lock.opened(folder)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if is_needed(folder):
            log.info("A folder that wasn't used for long stays, since it has unfinished tasks: %s", folder.name)
            return False
        shutil.rmtree(folder)
    except BlockingIOError:
        return False
    finally:
        os.close(held)
    return True
