"""Twinlock's other programs, which are installed next to this one or by packages of their own."""

import sys
from pathlib import Path

_PACKAGED = Path("/usr/bin")


def find(name: str) -> Path | None:
    """Return the program `name` of this installation, else the packaged one; None if there is neither."""
    places = (Path(sys.executable).parent, _PACKAGED)
    return next((place / name for place in places if (place / name).exists()), None)
