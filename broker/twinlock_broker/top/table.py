"""The table on the screen: a heading, and as many lines as there is room for, around the chosen one."""

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widget import Widget

from twinlock_broker.top import columns, view
from twinlock_broker.top.columns import COLUMNS, Fitted
from twinlock_broker.top.lines import Line
from twinlock_broker.top.view import View

_SHOWN = tuple(column for column in COLUMNS if column.title != "PID")


class Table(Widget, can_focus=True):
    """The lines of a picture."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "the line above", show=False),
        Binding("down,j", "move(1)", "the line below", show=False),
        Binding("pageup", "page(-1)", "a page up", show=False),
        Binding("pagedown", "page(1)", "a page down", show=False),
        Binding("home", "move(-1000000)", "the first line", show=False),
        Binding("end", "move(1000000)", "the last line", show=False),
    ]

    class Chosen(Message):
        """Another line was chosen."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: Sequence[Line] = ()
        self._view = View()
        self._place = 0
        self._first = 0
        self._fitted: Fitted = []

    @property
    def chosen(self) -> Line | None:
        """The chosen line; None if there is none."""
        return self._lines[self._place] if self._lines else None

    def show(self, lines: Sequence[Line], how: View) -> None:
        """Show other lines. What was chosen stays chosen, wherever it is now."""
        former = self.chosen
        places = {line.key: place for place, line in enumerate(lines)}
        self._lines, self._view = lines, how
        self._fitted = columns.fit(_SHOWN, lines, self.size.width)
        there = places.get(former.key, self._place) if former is not None else 0
        self._place = max(0, min(there, len(lines) - 1))
        self._changed()

    def action_move(self, by: int) -> None:
        """Choose another line."""
        self._place = max(0, min(self._place + by, len(self._lines) - 1))
        self._changed()

    def action_page(self, direction: int) -> None:
        """Choose a line of another page."""
        self.action_move(direction * max(1, self._room() - 1))

    def on_resize(self, event: events.Resize) -> None:
        """Show the columns that there is room for now."""
        self._fitted = columns.fit(_SHOWN, self._lines, event.size.width)

    def on_click(self, event: events.Click) -> None:
        """Choose the line that was clicked on."""
        self.action_move(self._first + event.y - 1 - self._place)

    def render(self) -> Text:
        """Return the lines that there is room for."""
        room = self._room()
        self._first = max(min(self._first, self._place), self._place - room + 1, 0)
        width = self.size.width
        heading = columns.heading(self._fitted, self._view.sort, view.ascending(self._view))
        shown = Text(heading.ljust(width)[:width], "bold underline", no_wrap=True, end="")
        for place in range(self._first, min(self._first + room, len(self._lines))):
            line = columns.text(self._fitted, self._lines[place]).ljust(width)[:width]
            shown.append("\n")
            shown.append(line, "reverse" if place == self._place else _style(self._lines[place]))
        return (
            shown if self._lines else shown.append("\nno endpoint matches" if self._view.filter else "\nno endpoints")
        )

    def _room(self) -> int:
        return max(1, self.size.height - 1)

    def _changed(self) -> None:
        self.refresh()
        self.post_message(self.Chosen())


def _style(line: Line) -> str:
    return "bold" if line.row is None else ""
