"""Files with secrets in them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, Any


def open_private(path: Path, mode: str = "w") -> IO[Any]:
    """Open a file for writing that only its owner can read, from the moment when it is made."""
    return open(path, mode, opener=lambda name, flags: os.open(name, flags, 0o600))
