"""Which tasks were sent to workers, in a file that outlives the endpoint: one that isn't in it has certainly not begun.

The file has first the name of this boot of the host, since what wasn't synced ends with the boot, then 16 bytes a task,
its id. If it can't be written there is no file: then any task may have begun.
"""

import os
import uuid
from collections.abc import Iterable, Set
from contextlib import suppress
from pathlib import Path

_ID = 16
_BOOT = Path("/proc/sys/kernel/random/boot_id")


def path_in(folder: Path) -> Path:
    """Return the path of the file, in the endpoint's folder."""
    return folder / "journal" / "begun"


def create(path: Path) -> None:
    """Make the file, with no task in it."""
    try:
        path.touch(0o600)
        path.write_bytes(_BOOT.read_bytes())
    except OSError:
        with suppress(OSError):
            path.unlink(missing_ok=True)


class Notes:
    """The writer of the file that `create` made. It writes before tasks are sent, not after."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        except OSError:
            self._file = -1

    def add(self, task_ids: Iterable[str]) -> None:
        """Note that the tasks with these UUIDs are going to be sent."""
        ids = bytes.fromhex("".join(task_ids).replace("-", ""))
        if not ids or self._file < 0:
            return
        try:
            written = os.write(self._file, ids) == len(ids)
        except OSError:
            written = False
        if not written:
            with suppress(OSError):
                self._path.unlink()
            os.close(self._file)
            self._file = -1


def empty(path: Path) -> None:
    """Forget what is in the file: none of these tasks is there any more."""
    with suppress(OSError):
        os.truncate(path, len(_BOOT.read_bytes()))


def take(path: Path) -> Set[str] | None:
    """Return the ids in the file, and remove it; None if it can't be known what has begun."""
    found = peek(path)
    with suppress(OSError):
        path.unlink(missing_ok=True)
    return found


def peek(path: Path) -> Set[str] | None:
    """Return the ids in the file; None if it can't be known what has begun."""
    try:
        data, boot = path.read_bytes(), _BOOT.read_bytes()
    except OSError:
        return None
    if not data.startswith(boot):
        return None
    whole = range(len(boot), len(data) - _ID + 1, _ID)
    return {str(uuid.UUID(bytes=data[offset : offset + _ID])) for offset in whole}
