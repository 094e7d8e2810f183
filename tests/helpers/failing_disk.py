"""A disk that fails in one of its calls."""

import errno
import os
import stat

import pytest


def fail_syncs_of_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have fsync(2) fail for each folder: what was renamed there may not be on disk."""
    fsync = os.fsync

    def fail_for_folders(opened: int) -> None:
        if stat.S_ISDIR(os.fstat(opened).st_mode):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(opened)

    monkeypatch.setattr(os, "fsync", fail_for_folders)
