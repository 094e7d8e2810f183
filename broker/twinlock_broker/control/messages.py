"""What an endpoint may say to the broker. Each part is checked here; `ValueError` says what is wrong with it."""

import re
from typing import Any

from twinlock_common.task_times import BOUNDS, RUN, WAIT

from twinlock_broker.endpoints.endpoint import Signed
from twinlock_broker.endpoints.task_times import Histogram
from twinlock_broker.printable import printable

MAX_RECORDS = 16
"""Audit records of a message; an endpoint sends those of one task together, which are four at most."""

_MOST_FIGURES = 32
_NAME = re.compile(r"[a-z_]{1,40}")
_MOST = 1 << 53  # a float holds every whole number up to this one
_LONGEST_CONDITION = 500
_MOST_JOBS = 64
_JOB = re.compile(r"[!-~]{1,64}")
_SIGNED = {"key": re.compile(r"SHA256:[A-Za-z0-9+/]{43}"), "delegation": re.compile(r"[0-9a-f]{32}")}


def read_figures(message: dict[str, Any]) -> dict[str, float]:
    """Return the numbers that an endpoint has about its work; those with odd names or values are left out."""
    found = message.get("figures")
    if not isinstance(found, dict) or len(found) > _MOST_FIGURES:
        raise ValueError("the figures aren't a short mapping")
    numbers = {name: value for name, value in found.items() if type(value) in (int, float) and abs(value) < _MOST}
    return {name: value for name, value in numbers.items() if _NAME.fullmatch(name)}


def read_histograms(message: dict[str, Any]) -> dict[str, Histogram]:
    """Return how long its tasks waited and ran, by the names in `task_times`; nothing from an earlier version's."""
    found = message.get("histograms", {})
    if not isinstance(found, dict) or len(found) > _MOST_FIGURES:
        raise ValueError("the histograms aren't a short mapping")
    return {name: _histogram(found[name]) for name in (WAIT, RUN) if name in found}


def _histogram(found: Any) -> Histogram:
    if not isinstance(found, dict):
        raise ValueError("a histogram that isn't a mapping")
    counts, total = found.get("counts"), found.get("sum")
    if not isinstance(counts, list) or len(counts) != len(BOUNDS) + 1:
        raise ValueError(f"a histogram without {len(BOUNDS) + 1} counts")
    if (type(total) is not int and type(total) is not float) or not 0 <= total < _MOST:
        raise ValueError("a histogram without a sum")
    return Histogram(tuple(_count(one, "a histogram with a count that is none") for one in counts), total)


def read_condition(message: dict[str, Any]) -> str:
    """Return what is in the way of its tasks, in one line of printable characters, for an administrator's terminal."""
    found = message.get("condition", "")
    if not isinstance(found, str):
        raise ValueError("the condition isn't a text")
    return printable(found, _LONGEST_CONDITION)


def read_jobs(message: dict[str, Any]) -> list[str]:
    """Return the ids of its batch jobs; none from an endpoint of an earlier version."""
    found = message.get("jobs", [])
    if not isinstance(found, list) or len(found) > _MOST_JOBS:
        raise ValueError("the batch jobs aren't a short list")
    if not all(isinstance(job, str) and _JOB.fullmatch(job) for job in found):
        raise ValueError("the id of a batch job isn't a short text of printable characters")
    return found


def read_signed(message: dict[str, Any]) -> Signed | None:
    """Return who has signed for it, by its own word; None if it doesn't say, as in plain mode."""
    found = message.get("signed")
    if found is None:
        return None
    if not isinstance(found, dict) or found.keys() != _SIGNED.keys():
        raise ValueError("what is said to be signed isn't a key and a delegation")
    if not all(isinstance(found[name], str) and form.fullmatch(found[name]) for name, form in _SIGNED.items()):
        raise ValueError("the key or the delegation isn't one")
    return Signed(**found)


def read_tasks(message: dict[str, Any]) -> int:
    """Return how many unfinished tasks its journal has."""
    return _count(message.get("tasks"), "a journal without a number of tasks")


def read_audit(message: dict[str, Any]) -> tuple[int, list[str]]:
    """Return which of its audit messages this is, and the records in it."""
    number, records = message.get("number"), message.get("records")
    if not isinstance(records, list) or not all(isinstance(one, str) for one in records):
        raise ValueError("an audit message without records")
    if len(records) > MAX_RECORDS:
        raise ValueError(f"more than {MAX_RECORDS} audit records in a message")
    return _count(number, "an audit message without a number"), records


def _count(found: Any, otherwise: str) -> int:
    if type(found) is not int or not 0 <= found < _MOST:
        raise ValueError(otherwise)
    return found
