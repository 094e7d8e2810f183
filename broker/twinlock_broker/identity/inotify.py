"""Changes in a folder, as the kernel tells of them (inotify(7))."""

import asyncio
import contextlib
import ctypes
import logging
import os
from collections.abc import Iterator
from pathlib import Path

# What a file's new content can come by, its editor's or a rename's, and what it can go by. From sys/inotify.h.
_CLOSE_WRITE, _MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x8, 0x40, 0x80, 0x100, 0x200
_EVENTS = _CLOSE_WRITE | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE
_ENOUGH = 65536  # bytes: every event has room in it

log = logging.getLogger(__name__)


@contextlib.contextmanager
def changes(folder: Path) -> Iterator[asyncio.Event]:
    """An event that is set whenever something in `folder` has changed, while the block runs.

    Where the kernel can't tell, it is told in the log and the event is never set.
    """
    changed = asyncio.Event()
    try:
        fd = _watch(folder)
    except OSError as error:
        log.warning("%s: can't be watched, it is looked at from time to time: %s", folder, error.strerror)
        yield changed
        return
    asyncio.get_running_loop().add_reader(fd, _read, fd, changed)
    try:
        yield changed
    finally:
        asyncio.get_running_loop().remove_reader(fd)
        os.close(fd)


def _watch(folder: Path) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    fd: int = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if fd < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    if libc.inotify_add_watch(fd, os.fsencode(folder), _EVENTS) < 0:
        number = ctypes.get_errno()
        os.close(fd)
        raise OSError(number, os.strerror(number))
    return fd


def _read(fd: int, changed: asyncio.Event) -> None:
    os.read(fd, _ENOUGH)
    changed.set()
