"""Files with secrets in them."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from twinlock_common.files import replacing

from twinlock_service.errors import StartError


def open_private(path: Path, mode: str = "w") -> IO[Any]:
    """Open a file for writing that only its owner can read, from the moment when it is made.

    One that others may read is closed to them. Raise `StartError` if it is a symbolic link, or `OSError`.
    """
    try:
        return open(path, mode, opener=_open)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        text = f"{path} is a symbolic link; move the file itself here, or link the whole state folder"
        raise StartError(os.EX_NOPERM, text) from None


@contextmanager
def replacing_private(path: Path) -> Iterator[IO[str]]:
    """Open a draft that only its owner can read; it takes the place of `path` when the block ends without an error.

    The disk has it then. Raise `OSError` if it can't be written; the file is as it was.
    """
    with replacing(path, durable=True) as draft, open_private(draft) as file:
        yield file


def _open(name: str, flags: int) -> int:
    descriptor = os.open(name, flags | os.O_NOFOLLOW, 0o600)
    try:
        os.fchmod(descriptor, 0o600)
    except OSError as error:
        os.close(descriptor)
        raise OSError(error.errno, error.strerror, name) from None
    return descriptor
