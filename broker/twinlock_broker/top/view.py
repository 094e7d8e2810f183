"""Which lines the table has, and in which order: what was chosen with the keys, applied to the broker's answer."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

from twinlock_broker.top import lines
from twinlock_broker.top.columns import BY_TITLE, Column
from twinlock_broker.top.lines import Line

Rows = Sequence[Mapping[str, Any]]

_SEARCHED = ("user", "id", "options", "state", "mode", "condition")
"""The texts of a row in which the filter's words may be."""


@dataclass(frozen=True, slots=True)
class View:
    """What was chosen."""

    sort: str = "USER"
    """The title of the column that the table is sorted by."""
    reverse: bool = False
    """The other way around than the column's own."""
    filter: str = ""
    """Words that each have to be in a line's texts, whatever their case."""
    tree: bool = False
    """Endpoints stand below their users."""
    folded: frozenset[str] = field(default_factory=frozenset)
    """Users whose endpoints aren't shown."""


def sorted_by(view: View, title: str) -> View:
    """Return the view sorted by a column; in the other direction, if it is sorted by this one."""
    if view.sort == title:
        return replace(view, reverse=not view.reverse)
    return replace(view, sort=title, reverse=False)


def fold(view: View, user: str) -> View:
    """Return the view with a user's endpoints hidden, or shown again."""
    return replace(view, folded=view.folded ^ {user})


def arrange(rows: Rows, view: View) -> list[Line]:
    """Return the lines for the rows of the broker's answer."""
    chosen = [row for row in rows if _matches(row, view.filter)]
    if view.tree:
        return list(_tree(chosen, view))
    return _ordered([lines.of_endpoint(row) for row in chosen], view)


def ascending(view: View) -> bool:
    """Return whether the lowest comes first."""
    return BY_TITLE[view.sort].of_number is view.reverse


def _tree(rows: Rows, view: View) -> Iterable[Line]:
    members: dict[str, list[Line]] = {}
    for user, own in groupby(sorted(rows, key=_user), key=_user):
        members[user] = [lines.of_endpoint(row, inner=True) for row in own]
    users = [lines.of_user(user, own, user in view.folded) for user, own in members.items()]
    for line in _ordered(users, view):
        yield line
        if not line.folded:
            yield from _ordered(members[line.user], view)


def _ordered(found: Sequence[Line], view: View) -> list[Line]:
    """Return the lines in their order; those of which nothing is known are last, in either direction."""
    column = BY_TITLE[view.sort]
    named = sorted(found, key=lambda line: (line.user, line.id))
    known = [line for line in named if _is_known(column, line)]
    unknown = [line for line in named if not _is_known(column, line)]
    return [*sorted(known, key=column.order, reverse=not ascending(view)), *unknown]


def _is_known(column: Column, line: Line) -> bool:
    return column.order(line) is not None


def _matches(row: Mapping[str, Any], words: str) -> bool:
    texts = [str(row.get(name, "")) for name in _SEARCHED]
    searched = " ".join([*texts, *row.get("jobs", ())]).lower()
    return all(word in searched for word in words.lower().split())


def _user(row: Mapping[str, Any]) -> str:
    return str(row["user"])
