"""The pipe to the manager endpoint: what is said there before the endpoint is online is the reason users see."""

import os
from contextlib import suppress

from twinlock_endpoint.worker import texts

_LONGEST = 2000  # characters; the manager endpoint keeps the last 4 KiB


class StartReport:
    """The original standard error, kept while the endpoint starts, after its output went to the log."""

    def __init__(self) -> None:
        self._descriptor: int | None = os.dup(2)

    @property
    def is_over(self) -> bool:
        """Whether the endpoint is online, so that reasons reach nobody this way."""
        return self._descriptor is None

    def fail(self, reason: str) -> None:
        """Say why the endpoint can't start. Once it is online there is nobody to tell."""
        if self._descriptor is not None:
            with suppress(BrokenPipeError):
                os.write(self._descriptor, f"{texts.cut(reason, _LONGEST)}\n".encode(errors="replace"))

    def online(self) -> None:
        """Close the pipe: the endpoint is online."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
