"""A folder for multiprocessing's sockets, where that for temporary files has too long a path.

The address of a socket has 108 bytes (unix(7)), and schedulers and sites give TMPDIR long names.
"""

import os
import tempfile
from contextlib import suppress
from multiprocessing import process

from twinlock_endpoint.errors import EngineError

_RANDOM = 8
"""Characters that tempfile adds to a prefix."""

_LONGEST = 107 - len("/pymp-") - _RANDOM - len("/listener-") - _RANDOM
_OTHERS = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - for a folder of our own with a name that nobody can guess


def choose() -> str:
    """Have multiprocessing use another folder if it has to; return its path, or an empty text.

    Whoever gets a path removes the folder. Raise `EngineError` if no such folder can be made.
    """
    usual = tempfile.gettempdir()
    if len(os.fsencode(usual)) <= _LONGEST:
        return ""
    for place in (os.environ.get("XDG_RUNTIME_DIR", ""), *_OTHERS):
        if place and len(os.fsencode(place)) <= _LONGEST:
            with suppress(OSError):
                made = tempfile.mkdtemp(prefix="pymp-", dir=place)
                # multiprocessing has no public setting for it.
                process.current_process()._config["tempdir"] = made  # type: ignore[attr-defined]  # noqa: SLF001
                return made
    raise EngineError(
        f"The folder for temporary files, {usual}, has too long a path for a socket, and none can be made in "
        f"{', '.join(_OTHERS)}. Set TMPDIR to a path of at most {_LONGEST} bytes in the site's user_environment.yaml."
    )
