"""The columns of `twinlock top` and `twinlock status`, and which of them there is room for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from twinlock_broker.top.lines import Line
from twinlock_broker.top.units import duration, number, size

GAP = 2
"""Characters between two columns."""

Order = Callable[[Line], Any]
"""A function that returns what a line is sorted by; None comes last."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column."""

    title: str
    """Its heading."""
    cell: Callable[[Line], str]
    """Returns what it has for a line."""
    order: Order
    """What it sorts by."""
    key: str
    """The key that sorts by it in `top`; empty if it has none."""
    rank: int
    """Columns of a lower rank are shown first where there isn't room for all."""
    least: int
    """Its narrowest width in characters."""
    most: int
    """Its greatest width; longer texts are cut off."""
    meaning: str
    """What it is, for people."""
    of_number: bool = False
    """Numbers stand at the right, and the highest comes first."""
    of_uuid: bool = False
    """It is shown whole, or its beginning, which commands take."""


def _figure(name: str) -> Order:
    return lambda line: getattr(line.figures, name)


def _count(name: str) -> Callable[[Line], str]:
    return lambda line: number(getattr(line.figures, name))


def _known(name: str) -> Order:
    return lambda line: line.row[name] if line.row is not None else None


def _user(line: Line) -> str:
    if line.inner:
        return ""
    if line.row is None:
        return f"{'+' if line.folded else '-'} {line.user}"
    return line.user


def _endpoint(line: Line) -> str:
    return f"({line.endpoints})" if line.row is None else line.id


def _state(line: Line) -> str:
    if line.row is None:
        return ""
    return str(line.row["state"]) + (" restart" if line.row["restart_waits"] else "")


def _mode(line: Line) -> str:
    return "" if line.row is None else str(line.row["mode"] or "-")


def _options(line: Line) -> str:
    return "" if line.row is None else str(line.row.get("options", ""))


def _pid(line: Line) -> str:
    return "" if line.row is None else str(line.row["pid"] or "-")


def _age(line: Line) -> str:
    if line.row is None:
        return ""
    return "-" if line.row["seconds"] is None else duration(line.row["seconds"])


def _workers(line: Line) -> str:
    known, idle = line.figures.workers, line.figures.idle_workers
    if known is None or idle is None:
        return number(known)
    return f"{known - idle:.0f}/{known:.0f}"


def _jobs(line: Line) -> str:
    if line.row is None:
        return number(line.figures.jobs)
    return ",".join(line.row.get("jobs", ())) or "-"


def _cpu(line: Line) -> str:
    return "-" if line.figures.cpu is None else f"{line.figures.cpu:.0f}%"


def _idle(line: Line) -> str:
    left = line.figures.idle_left
    return "-" if left is None else duration(left)


COLUMNS = (
    Column("USER", _user, lambda line: line.user, "U", 1, 8, 20, "the local account"),
    Column("ENDPOINT", _endpoint, lambda line: line.id, "N", 2, 8, 36, "its uuid, or the beginning", of_uuid=True),
    Column("OPTIONS", _options, _options, "O", 11, 12, 60, "the user's options that set it apart"),
    Column("STATE", _state, _state, "S", 3, 8, 16, '"restart": a newer start command waits'),
    Column("MODE", _mode, _mode, "V", 13, 8, 8, "verified: runs only what its user has signed"),
    Column("PID", _pid, _known("pid"), "", 16, 7, 7, "its process", True),
    Column("AGE", _age, _known("seconds"), "A", 8, 7, 9, "since its process was started", True),
    Column("RUN", _count("running"), _figure("running"), "T", 4, 4, 6, "tasks that are running", True),
    Column("QUEUE", _count("queued"), _figure("queued"), "Q", 5, 5, 8, "tasks that wait", True),
    Column("DONE", _count("done"), _figure("done"), "D", 10, 5, 9, "tasks that have ended since its start", True),
    Column("WORKERS", _workers, _figure("workers"), "W", 12, 7, 11, "workers, busy ones/all", True),
    Column("BLOCKS", _count("blocks"), _figure("blocks"), "B", 15, 6, 6, "blocks of workers", True),
    Column("JOBS", _jobs, _figure("jobs"), "J", 14, 8, 24, "its batch jobs; how many, on a user's line"),
    Column(
        "MEM", lambda line: size(line.figures.memory), _figure("memory"), "M", 6, 4, 5, "memory, all processes", True
    ),
    Column("CPU", _cpu, _figure("cpu"), "C", 7, 4, 6, "processor time, in percent of one core", True),
    Column("IDLE", _idle, _figure("idle_left"), "I", 9, 7, 9, "how long until it ends for want of tasks", True),
)
"""All columns, from left to right."""

BY_TITLE = {column.title: column for column in COLUMNS}

Fitted = list[tuple[Column, int]]
"""Columns from left to right, with their widths in characters."""


def fit(columns: Sequence[Column], lines: Sequence[Line], width: float) -> Fitted:
    """Return the columns that there is room for, with their widths.

    Those of a low rank come first; texts get their least width, numbers what they need. What is left goes to the texts
    that lack least.
    """
    left = width + GAP
    widths: dict[str, int] = {}
    wanted = {column.title: _wanted(column, lines) for column in columns}
    for column in sorted(columns, key=lambda column: column.rank):
        needed = wanted[column.title] if column.of_number else column.least
        if needed + GAP <= left:
            widths[column.title] = needed
            left -= needed + GAP
    lacking = {column: wanted[column.title] - widths[column.title] for column in columns if column.title in widths}
    for column, lack in sorted(lacking.items(), key=lambda item: item[1]):
        more = _share(column, lack, left)
        widths[column.title] += more
        left -= more
    return [(column, widths[column.title]) for column in columns if column.title in widths]


def _share(column: Column, lack: int, left: float) -> int:
    """Return how many of the characters that are left a column gets; some more of a uuid would tell nobody anything."""
    if lack <= left:
        return lack
    return 0 if column.of_uuid else int(left)


def heading(fitted: Fitted, sort: str = "", ascending: bool = True) -> str:
    """Return the line above the table. The column that it is sorted by has a mark, in the gap behind it."""
    mark = "^" if ascending else "v"
    titles = [_title(column, width, mark if column.title == sort else "") for column, width in fitted]
    return " ".join(titles).rstrip()


def text(fitted: Fitted, line: Line) -> str:
    """Return a line of the table."""
    return (" " * GAP).join(_placed(column, width, column.cell(line)) for column, width in fitted).rstrip()


def _title(column: Column, width: int, mark: str) -> str:
    title = column.title.rjust(width) if column.of_number else column.title
    return f"{title}{mark}".ljust(width + GAP - 1)


def _placed(column: Column, width: int, cell: str) -> str:
    if len(cell) > width:
        cell = cell[:width] if column.of_uuid else f"{cell[: width - 1]}…"
    return cell.rjust(width) if column.of_number else cell.ljust(width)


def _wanted(column: Column, lines: Sequence[Line]) -> int:
    longest = max((len(column.cell(line)) for line in lines), default=0)
    return min(column.most, max(column.least, longest))


def describe() -> str:
    """Return what the columns are, a line each, for a help text."""
    width = max(len(column.title) for column in COLUMNS)
    return "\n".join(f"  {column.title.ljust(width)}  {column.meaning}" for column in COLUMNS)
