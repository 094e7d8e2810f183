"""The beginning of a trace: a time, or a duration before now."""

import time
from datetime import datetime

from twinlock_broker.command_line import USAGE_ERROR
from twinlock_broker.errors import Fatal

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def since_of(text: str) -> float:
    """Return the seconds since 1970 of a time, or of a duration before now such as 7d.

    A time is as in ISO 8601, such as 2026-11-30 or 2026-11-30T18:00, in this host's time zone if it names none.

    Raises:
        Fatal: 100, it is neither.
    """
    number, unit = text[:-1], text[-1:]
    if number.isascii() and number.isdecimal() and len(number) < 10 and unit in _UNITS:
        return max(0.0, time.time() - int(number) * _UNITS[unit])
    try:
        return max(0.0, datetime.fromisoformat(text).timestamp())
    except (ValueError, OverflowError):
        wanted = "neither a duration such as 12h or 7d nor a time such as 2026-11-30T18:00"
        raise Fatal(USAGE_ERROR, f"--since: {text!r} is {wanted}") from None
