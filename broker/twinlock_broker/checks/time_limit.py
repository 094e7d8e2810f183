"""A time limit for what a site's own schema makes of options: a regular expression in it may take for ever."""

import contextlib
import signal
from collections.abc import Iterator
from typing import NoReturn


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise `TimeoutError` in the block after so many seconds. It uses a signal, so it works in the main thread only.

    Python looks for signals while it matches a regular expression (_sre.c), so that these end as well.
    """
    former = signal.signal(signal.SIGALRM, _give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)


def _give_up(*_: object) -> NoReturn:
    raise TimeoutError
