"""The keys of `top`: one table for the program, its help and the line at its foot."""

from dataclasses import dataclass

from twinlock_broker.top.columns import COLUMNS


@dataclass(frozen=True, slots=True)
class Key:
    """A key."""

    names: str
    """Its names as Textual has them, with commas."""
    shown: str
    """Its name for people."""
    action: str
    """What it does, as Textual has it."""
    meaning: str
    """What it does, for people."""
    foot: str = ""
    """What it does in a word, for the line at the foot; empty if it isn't there."""


KEYS = (
    Key("question_mark", "?", "help", "show the keys", "keys"),
    Key("enter", "Enter", "open", "log, configuration and failures of an endpoint; fold a user's line", "open"),
    Key("slash", "/", "filter", "filter: words that a line must have; Enter keeps it, Esc removes it", "filter"),
    Key("escape", "Esc", "no_filter", "show all lines again"),
    Key("t", "t", "tree", "tree: endpoints below their users, who have the sums; or flat", "tree"),
    Key("s", "s", "stop", "stop the endpoint, or all endpoints of a user's line", "stop"),
    Key("x", "x", "stop_all", "stop all endpoints of the user"),
    Key("b", "b", "block", "block the user, or unblock", "block"),
    Key("d", "d", "drain", "drain the manager endpoint, or end the drain", "drain"),
    Key("f", "f", "failures", "what failed last, whoever's it is", "failed"),
    Key("r", "r", "refresh", "ask the broker now"),
    Key("q", "q", "quit", "leave; so does Ctrl-C", "quit"),
)


def foot() -> str:
    """Return the line at the foot."""
    return "  ".join(f"{key.shown} {key.foot}" for key in KEYS if key.foot)


def help_text() -> str:
    """Return what all keys do."""
    plain = [f"{key.shown:>5}  {key.meaning}" for key in KEYS]
    sorting = [f"{column.key:>5}  {column.title}: {column.meaning}" for column in COLUMNS if column.key]
    return "\n".join([*plain, "", "Sort by a column; once more: the other way around", *sorting])
