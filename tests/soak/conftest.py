"""Where a soak's programs and files are."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def prefix() -> Path:
    """Where the programs are installed."""
    return Path(os.environ.get("TWINLOCK_PREFIX", sys.prefix))


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every user may enter."""
    path = Path(tempfile.mkdtemp(prefix="twl-soak-", dir="/var/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)
