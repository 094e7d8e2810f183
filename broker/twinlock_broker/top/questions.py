"""What is asked before anything is done: each question names what will happen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from twinlock_broker.top.lines import Line

NO_REASON = "no reason was given"
MAINTENANCE = "maintenance"
"""What users are told if the administrator says nothing else; as with `twinlock block` and `twinlock drain`."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question, and what is done if the answer is yes."""

    text: str
    """For the administrator."""
    requests: tuple[dict[str, Any], ...]
    """The broker is asked for these, one after the other."""
    done: str
    """What is said then."""


def stop(line: Line) -> Question:
    """Ask about the end of one endpoint."""
    text = f"Stop endpoint {line.id} of {line.user}, with {_tasks([line])}? Its user is told."
    return Question(text, ({"request": "stop", "endpoint": line.id},), f"{line.id} of {line.user} is ending")


def stop_all(user: str, members: Sequence[Line]) -> Question:
    """Ask about the end of all endpoints of a user."""
    text = f"Stop all {len(members)} endpoints of {user}, with {_tasks(members)}? The user is told."
    requests = tuple({"request": "stop", "endpoint": line.id} for line in members)
    return Question(text, requests, f"{len(members)} endpoints of {user} are ending")


def block(user: str, reason: str) -> Question:
    """Ask about a block."""
    text = (
        f"Block {user}? No endpoint is started for the account any more, until it is unblocked; those that run go on. "
        f"Users are told: {reason}"
    )
    return Question(text, ({"request": "block", "user": user, "reason": reason},), f"{user} is blocked")


def unblock(user: str, order: Mapping[str, Any]) -> Question:
    """Ask about the end of a block."""
    why = f"It was blocked by {order['by']}: {order['reason']}"
    text = f"Unblock {user}? Endpoints are started for the account again. {why}"
    return Question(text, ({"request": "unblock", "user": user},), f"{user} is no longer blocked")


def drain(reason: str) -> Question:
    """Ask about a drain."""
    text = (
        "Drain the manager endpoint? No endpoint is started any more, and each that runs is stopped after its last "
        f"task, until `twinlock resume`. Users are told: {reason}"
    )
    return Question(text, ({"request": "drain", "reason": reason},), "no more endpoints are started")


def resume(order: Mapping[str, Any]) -> Question:
    """Ask about the end of a drain."""
    text = f"End the drain, and start endpoints again? It was ordered by {order['by']}: {order['reason']}"
    return Question(text, ({"request": "resume"},), "endpoints are started again")


def _tasks(members: Sequence[Line]) -> str:
    """Return how many tasks these endpoints have."""
    known = [line.figures for line in members if line.figures.queued is not None or line.figures.running is not None]
    if len(known) < len(members):
        return "an unknown number of tasks"
    return f"{sum((each.running or 0) + (each.queued or 0) for each in known):.0f} tasks"
