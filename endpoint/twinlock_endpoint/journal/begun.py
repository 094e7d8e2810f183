"""The file in which an engine notes the tasks that it is going to send to workers; see engines/begun.py."""

import os
import uuid
from collections.abc import Set
from contextlib import suppress
from pathlib import Path

_ID = 16
_BOOT = Path("/proc/sys/kernel/random/boot_id")


def path_in(folder: Path) -> Path:
    """Where it is, in the endpoint's folder."""
    return folder / "journal" / "begun"


def create(path: Path) -> int:
    """Make the file; its descriptor, or -1 where that fails."""
    opened = -1
    try:
        opened = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        os.write(opened, _BOOT.read_bytes())
    except OSError:
        with suppress(OSError):
            path.unlink(missing_ok=True)
        opened = -1
    return opened


def empty(path: Path) -> None:
    """Forget what is in it: none of these tasks is there any more."""
    with suppress(OSError):
        os.truncate(path, len(_BOOT.read_bytes()))


def take(path: Path) -> Set[str] | None:
    """The ids in it, after which it is removed; None where it can't be known what has begun."""
    found = peek(path)
    with suppress(OSError):
        path.unlink(missing_ok=True)
    return found


def peek(path: Path) -> Set[str] | None:
    """The ids in it; None where it can't be known what has begun."""
    try:
        data, boot = path.read_bytes(), _BOOT.read_bytes()
    except OSError:
        return None
    if not data.startswith(boot):
        return None
    whole = range(len(boot), len(data) - _ID + 1, _ID)
    return {str(uuid.UUID(bytes=data[offset : offset + _ID])) for offset in whole}
