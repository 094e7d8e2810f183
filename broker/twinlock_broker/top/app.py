"""`twinlock top` on a terminal."""

import asyncio
import signal
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import ClassVar

from rich.text import Text
from textual import on, work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.timer import Timer
from textual.widgets import Input, Static

from twinlock_broker.errors import Fatal
from twinlock_broker.top import chain, head, questions, view
from twinlock_broker.top.broker_link import BrokerLink
from twinlock_broker.top.columns import COLUMNS
from twinlock_broker.top.detail import Detail
from twinlock_broker.top.dialogs import Confirm, Page, Reason
from twinlock_broker.top.keys import KEYS, foot, help_text
from twinlock_broker.top.lines import Line, of_endpoint
from twinlock_broker.top.picture import Picture
from twinlock_broker.top.questions import Question
from twinlock_broker.top.table import Table
from twinlock_broker.top.view import View

_TERMINATED = 128 + signal.SIGTERM
"""The exit code after SIGTERM, as in a shell."""

_SAID = 10.0
"""Seconds for which it is shown what became of an order."""


class Top(App[int]):
    """The screen for the broker whose admin socket is at `path`, beginning with `picture`."""

    CSS_PATH = "top.tcss"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(key.names, key.action, key.meaning) for key in KEYS),
        *(Binding(column.key, f"sort('{column.title}')", column.meaning) for column in COLUMNS if column.key),
        Binding("ctrl+c", "quit", "leave", priority=True),
    ]

    def __init__(self, path: Path, picture: Picture) -> None:
        super().__init__()
        self.theme = "ansi-dark"  # the terminal's own colours
        self._link = BrokerLink(path)
        self._picture = picture
        self._view = View()
        self._silence = Timer(self, _SAID)
        self._above, self._notes, self._said = Static(id="head"), Static(id="notes"), Static(id="said")
        self._table = Table()
        self._words = Input(id="words")
        self._filter = Horizontal(Static(Text("filter: ")), self._words, id="filter")

    def compose(self) -> ComposeResult:
        """Yield what is on the screen, from top to bottom."""
        yield from (self._above, self._table, self._notes, self._said, self._filter)
        yield Static(Text(foot(), no_wrap=True), id="keys")

    def on_mount(self) -> None:
        """Show the first picture, and the next ones as they come."""
        self._table.focus()
        self._show(self._picture)
        self.run_worker(self._link.watch(self._picture, self._show), exit_on_error=True)
        if not self.is_headless:  # otherwise the terminal would stay as it is now
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.exit, _TERMINATED)
        self.set_interval(1.0, self._show_head)  # its times go on while the broker is away

    def on_table_chosen(self) -> None:
        """Say what there is to say about the chosen line."""
        line = self._chosen
        rows = [] if line is None or line.row is None else [line.row]
        texts = [str(row.get("options", "")) for row in rows] + head.conditions(rows)
        self._notes.update(Text("\n".join(text for text in texts if text)))

    def action_sort(self, title: str) -> None:
        """Sort by a column; in the other direction, if the table is sorted by it."""
        self._look(view.sorted_by(self._view, title))

    def action_tree(self) -> None:
        """Show endpoints below their users, or all of them alike."""
        self._look(replace(self._view, tree=not self._view.tree))

    def action_filter(self) -> None:
        """Have words typed that are in the lines to show."""
        self._filter.add_class("open")
        self._words.focus()

    @on(Input.Changed, "#words")
    def show_matches(self, event: Input.Changed) -> None:
        """Show the lines that have what was typed so far."""
        self._look(replace(self._view, filter=event.value))

    @on(Input.Submitted, "#words")
    def keep_filter(self) -> None:
        """Go back to the table; the filter stays."""
        self._filter.set_class(bool(self._words.value), "open")
        self._table.focus()

    def action_no_filter(self) -> None:
        """Show all lines again."""
        self._words.clear()
        self.keep_filter()

    def action_open(self) -> None:
        """Show more of the chosen endpoint; hide or show the endpoints of the chosen user."""
        line = self._chosen
        if line is not None and line.row is None:
            self._look(view.fold(self._view, line.user))
        elif line is not None:
            self.push_screen(Detail(self._link, self._picture.answer["endpoint"], line, lambda: self._newest(line)))

    @work
    async def action_failures(self) -> None:
        """Show what failed last, whoever's it is."""
        try:
            found = await self._link.ask({"request": "failures"})
        except Fatal as error:
            self._say(str(error))
            return
        self.push_screen(Page(chain.describe(found["failures"])))

    def action_refresh(self) -> None:
        """Ask the broker now."""
        self._link.hurry()

    def action_help(self) -> None:
        """Show the keys."""
        self.push_screen(Page(help_text()))

    @work
    async def action_stop(self) -> None:
        """Stop the chosen endpoint, or all of the chosen user."""
        if (line := self._chosen) is not None:
            await self._ask_and_do(questions.stop(line) if line.row else self._stop_all(line))

    @work
    async def action_stop_all(self) -> None:
        """Stop all endpoints of the chosen user."""
        if (line := self._chosen) is not None:
            await self._ask_and_do(self._stop_all(line))

    @work
    async def action_block(self) -> None:
        """Block the chosen user, or unblock."""
        if (line := self._chosen) is None:
            return
        order = self._picture.answer["blocked"].get(line.user)
        if order is not None:
            await self._ask_and_do(questions.unblock(line.user, order))
            return
        reason = await self.push_screen_wait(Reason(f"Why is {line.user} to be blocked?", questions.NO_REASON))
        if reason is not None:
            await self._ask_and_do(questions.block(line.user, reason))

    @work
    async def action_drain(self) -> None:
        """Drain the manager endpoint, or end the drain."""
        order = self._picture.answer["drain"]
        if order is not None:
            await self._ask_and_do(questions.resume(order))
            return
        reason = await self.push_screen_wait(Reason("Why is nothing to be started?", questions.MAINTENANCE))
        if reason is not None:
            await self._ask_and_do(questions.drain(reason))

    @property
    def _chosen(self) -> Line | None:
        return self._table.chosen

    def _newest(self, line: Line) -> Line | None:
        rows = (row for row in self._picture.answer["endpoints"] if row["id"] == line.id)
        return next((of_endpoint(row) for row in rows), None)

    def _stop_all(self, line: Line) -> Question:
        rows = [row for row in self._picture.answer["endpoints"] if row["user"] == line.user]
        return questions.stop_all(line.user, [of_endpoint(row) for row in rows])

    async def _ask_and_do(self, question: Question) -> None:
        """Have the broker do it, if the administrator says yes."""
        if not await self.push_screen_wait(Confirm(question.text)):
            return
        self._say("the broker is asked for it")
        try:
            answers = [await self._link.ask(request) for request in question.requests]
            self._say(question.done if any(each.get("stopped", True) for each in answers) else "nothing is left of it")
        except Fatal as error:
            self._say(str(error))
        self._link.hurry()

    def _say(self, text: str) -> None:
        """Show what became of an order, for a while."""
        self._said.update(Text(text))
        self._silence.stop()
        self._silence = self.set_timer(_SAID, lambda: self._said.update())

    def _look(self, chosen: View) -> None:
        self._view = chosen
        self._show(self._picture)

    def _show(self, picture: Picture) -> None:
        self._picture = picture
        self._show_head()
        self._table.show(view.arrange(picture.answer["endpoints"], self._view), self._view)

    def _show_head(self) -> None:
        self._above.set_class(bool(self._picture.trouble), "stale")
        self._above.update(Text("\n".join(head.above(self._picture, monotonic()))))
