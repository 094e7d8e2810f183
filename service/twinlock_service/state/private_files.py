"""Files with secrets in them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from twinlock_common.files import replacing


def open_private(path: Path, mode: str = "w") -> IO[Any]:
    """Open a file for writing that only its owner can read, from the moment when it is made."""
    return open(path, mode, opener=lambda name, flags: os.open(name, flags, 0o600))


@contextmanager
def replacing_private(path: Path) -> Iterator[IO[str]]:
    """Open a draft that only its owner can read; it takes the place of `path` when the block ends without an error.

    The disk has it then. Raise `OSError` if it can't be written; the file is as it was.
    """
    with replacing(path, durable=True) as draft, open_private(draft) as file:
        yield file
