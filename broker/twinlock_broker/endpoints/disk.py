"""Syncing of files to the disk in a thread, each with its folder, which holds its name."""

import contextlib
import threading
from pathlib import Path
from queue import SimpleQueue

from twinlock_common.files import sync


class Disk:
    """One thread that syncs, started with the first file.

    It doesn't keep the process alive: a sync may never return. What it hasn't reached then, the kernel writes soon.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._queue: SimpleQueue[Path] = SimpleQueue()
        self._waiting: set[Path] = set()

    def sync_soon(self, path: Path) -> None:
        """Have the disk hold what is in the file now, or what replaces it before it is synced."""
        if path in self._waiting:
            return
        self._waiting.add(path)
        self._queue.put(path)
        if self._thread is None:
            thread = threading.Thread(target=self._sync_all, name="disk", daemon=True)
            thread.start()
            self._thread = thread

    def _sync_all(self) -> None:
        while True:
            path = self._queue.get()
            self._waiting.discard(path)
            for each in (path, path.parent):
                with contextlib.suppress(OSError):  # the file has gone, or its writer has logged that the disk fails
                    sync(each)
