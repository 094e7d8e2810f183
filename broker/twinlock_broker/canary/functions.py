"""The canary's function at the service: registered once, and known by a file from then on.

So the service isn't filled with functions, and the uuid can be one of `allowed_functions`.
"""

import json
import os
import uuid
from pathlib import Path

from twinlock_common.files import replacing

from twinlock_broker.canary import payload
from twinlock_broker.errors import Fatal

FILE = "canary.json"
"""The file's name in the state folder."""


class KnownFunction:
    """The function's uuid, in the file at `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> str | None:
        """Return the uuid; None if this version's function was never registered."""
        try:
            found = json.loads(self._path.read_text())
            return str(uuid.UUID(found["function"])) if found["version"] == payload.version() else None
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Fatal(os.EX_NOINPUT, f"{self._path}: can't be read: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, AttributeError):
            return None

    def write(self, function: str) -> None:
        """Keep the uuid. Raise `Fatal` (73)."""
        try:
            with replacing(self._path) as draft:
                draft.write_text(json.dumps({"function": function, "version": payload.version()}))
        except OSError as error:
            text = f"{self._path}: can't be written: {error.strerror}; run it as the broker's account, or give --state"
            raise Fatal(os.EX_CANTCREAT, text) from error
