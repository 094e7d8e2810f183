"""The watch on the mapping file, which is read again when it changed: a bad one is reported before anybody needs it."""

import asyncio
import contextlib
import logging
from pathlib import Path

from asyncinotify import Inotify, Mask
from twinlock_common.offload import Offload

from twinlock_broker import metrics
from twinlock_broker.identity.mapping import Mapper

LOOK_PERIOD = 30.0
"""Seconds between two looks at the file: inotify tells nothing of what other hosts change on network file systems."""

READ_LIMIT = 10.0
"""Seconds for reading the file; if that takes longer, its file system hangs."""

# The events by which a file's content can change (it is written, or renamed into place), or the file can go.
_EVENTS = Mask.CLOSE_WRITE | Mask.MOVE | Mask.CREATE | Mask.DELETE

log = logging.getLogger(__name__)


async def watch(mapper: Mapper) -> None:
    """Refresh `mapper` at each change in its file's folder, and every `LOOK_PERIOD` seconds, without end.

    Meanwhile the metrics say whether the mapping in force is that of the file.
    """
    metrics.MAPPING_VALID.set_function(lambda: mapper.is_current)
    metrics.MAPPING_LOADED.set_function(lambda: mapper.loaded_at)
    with metrics.exported(metrics.MAPPING_VALID, metrics.MAPPING_LOADED):
        await _refresh_at_changes(mapper)


async def _refresh_at_changes(mapper: Mapper) -> None:
    changed = asyncio.Event()
    offload = Offload("mapping", 1)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_set_at_changes(changed, mapper.path.parent))
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_PERIOD):
                    await changed.wait()
            changed.clear()
            with contextlib.suppress(TimeoutError):  # the commands that need the mapping will report it
                await offload.run(READ_LIMIT, mapper.refresh)


async def _set_at_changes(changed: asyncio.Event, folder: Path) -> None:
    """Set `changed` at each change in `folder`, without end.

    If the kernel can't tell of changes, the log says so, and this returns.
    """
    try:
        with Inotify() as inotify:
            inotify.add_watch(folder, _EVENTS)
            changed.set()  # the file may have changed since it was read
            async for _ in inotify:
                changed.set()
    except OSError as error:
        log.warning("%s can't be watched; looking for changes every %.0f s: %s", folder, LOOK_PERIOD, error.strerror)
