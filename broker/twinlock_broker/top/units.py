"""Numbers as people read them in a narrow column."""

_DAY = 86400
_LONGEST = 100 * 3600
"""Seconds from which days are named: hours of two digits have passed."""

_STEPS = ("", "K", "M", "G", "T", "P")


def duration(seconds: float) -> str:
    """Return a time such as 1:02:03, or 12d03h from a hundred hours on."""
    whole = round(max(0, seconds))
    if whole >= _LONGEST:
        days, rest = divmod(whole, _DAY)
        return f"{days}d{rest // 3600:02}h"
    minutes, left = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{left:02}"


def number(value: float | None) -> str:
    """Return a whole number; - if it isn't known."""
    return "-" if value is None else f"{value:.0f}"


def size(value: float | None) -> str:
    """Return bytes such as 312M or 1.2G; - if they aren't known."""
    if value is None:
        return "-"
    step = 0
    while value >= 1000 and step < len(_STEPS) - 1:
        value /= 1024
        step += 1
    return f"{value:.1f}{_STEPS[step]}" if step > 0 and value < 10 else f"{value:.0f}{_STEPS[step]}"
