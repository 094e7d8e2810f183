"""Syncing of files to the disk in a thread, each with its folder, which holds its name."""

import contextlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from twinlock_common.files import sync


class Disk:
    """One thread that syncs, started with the first file."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "disk")
        self._waiting: set[Path] = set()

    def sync_soon(self, path: Path) -> None:
        """Have the disk hold what is in the file now, or what replaces it before it is synced."""
        if path not in self._waiting:
            self._waiting.add(path)
            self._thread.submit(self._sync, path)

    def _sync(self, path: Path) -> None:
        self._waiting.discard(path)
        for each in (path, path.parent):
            with contextlib.suppress(OSError):  # the file has gone, or its writer has logged that the disk fails
                sync(each)
