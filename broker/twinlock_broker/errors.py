"""The two ways in which the broker's work can fail."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any


class Fatal(Exception):
    """The broker can't go on; the process prints the text and ends with `status`."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        """The exit code, of sysexits.h."""


class CommandError(Exception):
    """A command that can't be carried out."""

    def __init__(self, text: str, detail: str = "") -> None:
        super().__init__(text)
        self.text = text
        """For the user: what is wrong, and what to do; it holds no secret and no path of the host."""
        self.detail = detail
        """For the administrator; it goes to the log only."""
        self.stage = ""
        """What failed, see `at_stage`; empty if nobody said."""
        self.user = ""
        """The account that the command was mapped to; empty if it failed before that."""
        self.options: Mapping[str, Any] = {}
        """The user's options; empty if it failed before they were read."""


@contextlib.contextmanager
def at_stage(stage: str, options: Mapping[str, Any], user: str = "") -> Iterator[None]:
    """Have a `CommandError` that the block raises say at which stage it was, with what options and account."""
    try:
        yield
    except CommandError as error:
        error.stage, error.options, error.user = stage, options, user
        raise
