"""The file daemon.pid in the endpoint's folder, as the agent's endpoint keeps it: who removes it ends the endpoint.

Sites' manuals tell users so, since it works from any host that has their home. `globus-compute-endpoint list` takes an
endpoint for a running one if the file was touched within the last 30 seconds.
"""

import asyncio
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from twinlock_common.files import replacing
from twinlock_common.offload import in_thread

REMOVED = "its daemon.pid was removed"
"""Why an endpoint ends whose file was."""

_NAME = "daemon.pid"
_PERIOD_S = 15.0

log = logging.getLogger(__name__)


def write(folder: Path) -> None:
    """Write the file anew, with this process's id. Raise `OSError`."""
    with replacing(folder / _NAME) as draft:
        draft.write_text(f"{os.getpid()}\n")


async def watch(folder: Path, removed: Callable[[str], object], period_s: float = _PERIOD_S) -> None:
    """Touch the file every `period_s` seconds; when it is gone, call `removed` with the reason, and return.

    A file system that doesn't answer, or not well, proves nothing.
    """
    works = True
    while True:
        await asyncio.sleep(period_s)
        try:
            await in_thread(partial(os.utime, folder / _NAME))
        except FileNotFoundError:
            removed(REMOVED)
            return
        except OSError as error:
            if works:
                log.warning("%s can't be touched: %s", folder / _NAME, error.strerror)
            works = False
        else:
            works = True


def remove(folder: Path) -> None:
    """Remove it at the end, if it is still there."""
    with suppress(OSError):
        (folder / _NAME).unlink()
