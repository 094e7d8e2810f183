"""Why an endpoint can't start: errors whose text is for the user, each with the exit code that goes with it."""

import os


class StartError(Exception):
    """A reason why the endpoint can't start, in words for the user.

    The text contains no secret, and no path of the host but those of the endpoint's own folder.
    """

    exit_code = os.EX_SOFTWARE
    """The exit code of the endpoint's process."""


class UsageError(StartError):
    """A start by hand, or with wrong arguments."""

    exit_code = 100


class ConfigError(StartError):
    """The rendered configuration can't be used."""

    exit_code = os.EX_CONFIG


class FolderError(StartError):
    """The endpoint's folder or log can't be made in the user's home."""

    exit_code = os.EX_CANTCREAT


class JournalError(StartError):
    """The endpoint's journal can't be used."""

    exit_code = os.EX_DATAERR


class HeldFolderError(StartError):
    """The folder is in use by another endpoint of the same name."""

    exit_code = os.EX_TEMPFAIL


class EngineError(StartError):
    """The engine didn't start."""

    exit_code = os.EX_UNAVAILABLE


class InterruptedTaskError(Exception):
    """The endpoint ended while it had a task.

    `how` says in what way it ended; `retries` is how many its configuration allows.
    """

    def __init__(self, how: str, retries: int) -> None:
        super().__init__(
            f"The endpoint was {how}, while it had this task. The task may have begun to run and had effects, and "
            f"the endpoint's configuration allows {retries or 'no'} retries (max_retries_on_system_failure). "
            "Look at what it left, then submit it again"
        )


class DamagedError(Exception):
    """The record of a task can't be read any more."""

    def __init__(self) -> None:
        super().__init__(
            "The endpoint was interrupted while it had this task, and its record of the task on disk is damaged. The "
            "task may have begun to run. Look at what it left, then submit it again"
        )
