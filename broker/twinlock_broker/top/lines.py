"""A line of the table: an endpoint, or the sums of a user's endpoints."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from twinlock_broker.top.figures import Figures, of_row, total


@dataclass(frozen=True, slots=True)
class Line:
    """What a line is about."""

    user: str
    """The account."""
    row: Mapping[str, Any] | None
    """The endpoint's row of the broker's answer; None on a user's line."""
    figures: Figures
    """The endpoint's numbers, or their sums."""
    endpoints: int = 1
    """How many endpoints it is about."""
    folded: bool = False
    """Of a user's line: the endpoints aren't shown."""
    inner: bool = False
    """It stands below its user's line."""

    @property
    def id(self) -> str:
        """The endpoint's uuid; empty on a user's line."""
        return "" if self.row is None else str(self.row["id"])

    @property
    def key(self) -> str:
        """What it is known by in the next picture."""
        return self.id or f"user {self.user}"


def of_endpoint(row: Mapping[str, Any], inner: bool = False) -> Line:
    """Return an endpoint's line."""
    return Line(row["user"], row, of_row(row), inner=inner)


def of_user(user: str, members: Sequence[Line], folded: bool) -> Line:
    """Return the line of a user with these endpoints."""
    return Line(user, None, total(line.figures for line in members), len(members), folded)
