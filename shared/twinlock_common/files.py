"""Files that are replaced as a whole, so that neither a reader nor a crash ever meets half of one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Give the path of a draft, which takes the place of the file at `path` when the block ends without an error.

    With `durable` the disk has it then, so that it outlives a power cut too. Raises `OSError`; the file is as it was.
    """
    draft = path.with_suffix(".new")
    yield draft
    if durable:
        sync(draft)
    draft.replace(path)
    if durable:
        sync(path.parent)  # which has the file's name


def sync(path: Path) -> None:
    """Wait until the disk has the file or folder at `path` as it is now. Raises `OSError`."""
    opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
