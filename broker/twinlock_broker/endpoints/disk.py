"""Syncs files to the disk in a thread, each with its folder, which knows its name."""

import contextlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from twinlock_common.files import sync


class Disk:
    """One thread, from the first file on."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "disk")
        self._waiting: set[Path] = set()

    def sync_soon(self, path: Path) -> None:
        """Have the disk hold what is in the file by now, or what replaces it until its turn comes."""
        if path not in self._waiting:
            self._waiting.add(path)
            self._thread.submit(self._sync, path)

    def _sync(self, path: Path) -> None:
        self._waiting.discard(path)
        for each in (path, path.parent):
            with contextlib.suppress(OSError):  # it is gone, or the disk is: whoever wrote it has said so
                sync(each)
