"""Which tasks were sent to workers, in a file that outlives the endpoint: one that isn't in it has certainly not begun.

The interchange writes it, before it sends them: first the name of this boot of the host, with which what wasn't synced
ends, then 16 bytes a task, its id. Where that can't be written there is no file: then any task may have begun.
"""

import os
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from parsl.executors.high_throughput.interchange import Interchange

from twinlock_endpoint.journal import begun


class NotingInterchange(Interchange):  # type: ignore[misc]  # Parsl ships no types
    """Parsl's interchange, which notes the tasks that it is going to send in the file at `path`."""

    def __init__(self, path: Path, **config: Any) -> None:
        super().__init__(**config)
        self._path = path
        self._file = begun.create(path)

    def get_tasks(self, count: int) -> Sequence[dict[str, Any]]:
        """The next tasks for a manager."""
        tasks: Sequence[dict[str, Any]] = super().get_tasks(count)
        ids = b"".join(uuid.UUID(task["context"]["task_executor"]["a"][0]).bytes for task in tasks)
        if ids and self._file >= 0:
            self._note(ids)
        return tasks

    def _note(self, ids: bytes) -> None:
        try:
            written = os.write(self._file, ids) == len(ids)
        except OSError:
            written = False
        if not written:
            with suppress(OSError):
                self._path.unlink()
            os.close(self._file)
            self._file = -1
