"""How a process ended, in words."""

import signal


def describe(code: int) -> str:
    """Return what to say after "the process" for an exit code, which is negative for the number of a signal."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:  # real-time signals have no names
        return f"was killed by signal {-code}"
