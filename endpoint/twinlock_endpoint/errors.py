"""Why an endpoint can't start: errors whose text is for the user, each with the exit code that goes with it."""

import difflib
import os
from collections.abc import Iterable


class StartError(Exception):
    """The endpoint can't start. The text reaches the user as the reason: no secret in it, and no path of the host."""

    exit_code = os.EX_SOFTWARE


class UsageError(StartError):
    """Started by hand or with wrong arguments."""

    exit_code = 100


class DocumentError(StartError):
    """The document on standard input is not what the manager endpoint has to write."""

    exit_code = os.EX_DATAERR


class ConfigError(StartError):
    """The rendered configuration can't be used."""

    exit_code = os.EX_CONFIG


class FolderError(StartError):
    """The endpoint's folder or log can't be made in the user's home."""

    exit_code = os.EX_CANTCREAT


class EngineError(StartError):
    """The engine didn't start."""

    exit_code = os.EX_UNAVAILABLE


def nearest(name: str, known: Iterable[str]) -> str:
    """Half a sentence for an error about an unknown name: the name that was probably meant, else all that there are."""
    names = sorted(known)
    lowered = {candidate.lower(): candidate for candidate in names}
    close = difflib.get_close_matches(name.lower(), lowered, n=1)
    return f"did you mean {lowered[close[0]]!r}?" if close else f"known are: {', '.join(names)}"
