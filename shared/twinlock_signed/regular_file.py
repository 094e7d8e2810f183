"""Files that may be anything, since an account can make them."""

import os
import stat
from pathlib import Path

from twinlock_signed.errors import ConfigError


def read(path: Path, most: int) -> bytes:
    """Return the content of a regular file. A pipe or a device would hold up whoever reads it.

    Raises:
        ConfigError: it isn't a regular file, or has more than `most` bytes.
        OSError: it can't be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ConfigError(f"{path}: it is not a regular file; put one in its place")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            content = file.read(most + 1)
    finally:
        os.close(descriptor)
    if len(content) > most:
        raise ConfigError(f"{path}: it has more than {most} bytes; remove what nobody needs")
    return content
