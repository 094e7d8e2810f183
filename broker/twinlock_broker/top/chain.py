"""A failure, with all that led to it, as lines of text."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def describe(failures: Sequence[Mapping[str, Any]]) -> str:
    """Return what failed, the newest first."""
    if not failures:
        return "Nothing has failed since the broker was started."
    return "\n\n".join("\n".join(_lines(failure)) for failure in failures)


def _lines(failure: Mapping[str, Any]) -> Iterator[str]:
    yield f"{_moment(failure['at'])}  failed at: {failure['stage']}"
    identity = " mapped as ".join(failure[name] for name in ("identity", "mapped") if failure[name])
    came = "" if failure["commanded"] is None else f", came at {_moment(failure['commanded'])}"
    told = {
        "endpoint": failure["endpoint"],
        "command": f"{failure['command'] or '-'} (the error id){came}",
        "identity": identity,
        "account": failure["user"],
        "options": failure["options"],
        "reason": failure["reason"],
        "detail": failure["detail"],
        "printed": failure["printed"],
    }
    for name, text in told.items():
        if text and not (name == "printed" and text in failure["reason"]):
            first, *more = text.split("\n")
            yield f"  {name:8}  {first}"
            yield from (f"            {line}" for line in more)


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
