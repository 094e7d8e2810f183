"""Files that are replaced as a whole, so that neither a reader nor a crash meets half of one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class NotDurable(OSError):
    """A file was replaced, but the disk may not have its name yet: after a power cut it may be the old one again."""


@contextmanager
def replacing(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Yield the path of a draft, which replaces the file at `path` if the block ends without an error.

    With `durable` the new file is on the disk by then, so that it survives a power cut too.

    Raises:
        NotDurable: with `durable` only: the file is the new one, but a power cut may undo that.
        OSError: any other; the file is as it was before.
    """
    draft = path.with_suffix(".new")
    yield draft
    if durable:
        sync(draft)
    draft.replace(path)
    if durable:
        try:
            sync(path.parent)  # which has the file's name
        except OSError as error:
            raise NotDurable(error.errno, error.strerror, str(path.parent)) from error


def sync(path: Path) -> None:
    """Wait until the disk has the file or folder at `path` as it is now. Raise `OSError`."""
    opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
