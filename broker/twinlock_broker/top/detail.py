"""One endpoint on the whole screen: its log, its configuration, its failures, and the broker's lines about it."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import ContentSwitcher, RichLog, Static
from twinlock_common.offload import in_thread

from twinlock_broker.errors import Fatal
from twinlock_broker.hidden import hide_in_yaml
from twinlock_broker.printable import printable_lines
from twinlock_broker.top import broker_link, chain, head
from twinlock_broker.top.broker_link import BrokerLink
from twinlock_broker.top.columns import COLUMNS
from twinlock_broker.top.lines import Line
from twinlock_broker.top.log import LogReader

TABS = ("log", "configuration", "failures", "broker")
"""What can be seen, one at a time."""

_SIGNED = "# Not what runs: in verified mode the endpoint renders its own, from options that its user has signed.\n"
_MOST_LINES = 5000
_LONGEST_CONFIG = 1 << 17


class Detail(ModalScreen[None]):
    """What is known of the endpoint of `line`.

    `newest` returns its line in the newest picture, None if it has ended.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "leave", "back"),
        *(Binding(str(number), f"tab('{name}')", name) for number, name in enumerate(TABS, 1)),
        Binding("tab,right", "turn(1)", "the next one"),
        Binding("shift+tab,left", "turn(-1)", "the one before"),
    ]

    def __init__(self, link: BrokerLink, manager: str, line: Line, newest: Callable[[], Line | None]) -> None:
        super().__init__()
        self._link = link
        self._manager = manager
        self._line = line
        self._newest = newest
        self._about, self._tabs = Static(id="about"), Static(id="tabs")
        self._log = RichLog(max_lines=_MOST_LINES, wrap=True, id="log")
        self._texts = {name: Static() for name in TABS[1:]}
        self._switcher = ContentSwitcher(
            self._log,
            *(VerticalScroll(text, id=name) for name, text in self._texts.items()),
            initial="log",
        )
        self._reader = LogReader(line.user, self._show)

    def compose(self) -> ComposeResult:
        """Yield what is on the screen, from top to bottom."""
        yield from (self._about, self._tabs, self._switcher)
        yield Static(Text("1 to 4, left, right: choose  up, down, page up, page down: scroll  Esc: back"))

    def on_mount(self) -> None:
        """Begin to read the log."""
        self._show_about()
        self.action_tab("log")
        self.set_interval(1.0, self._show_about)
        self.set_interval(broker_link.PERIOD, self._refresh)
        self.run_worker(self._read_log())

    def on_unmount(self) -> None:
        """Read the log no more."""
        self._reader.close()

    def action_leave(self) -> None:
        """Go back to the table."""
        self.dismiss(None)

    def action_tab(self, name: str) -> None:
        """Show one of `TABS`."""
        self._switcher.current = name
        titles = [f"[{each}]" if each == name else f" {each} " for each in TABS]
        self._tabs.update(Text("  ".join(f"{number} {title}" for number, title in enumerate(titles, 1))))
        self.query_one(f"#{name}").focus()
        self._refresh()

    def action_turn(self, by: int) -> None:
        """Show the next one of `TABS`, or the one before."""
        place = TABS.index(str(self._switcher.current))
        self.action_tab(TABS[(place + by) % len(TABS)])

    def _show_about(self) -> None:
        newest = self._newest()
        self._line = newest or self._line
        self._about.update(Text("\n".join(_about(self._line, ended=newest is None))))

    def _refresh(self) -> None:
        """Have what is shown asked for anew."""
        asked: dict[str, Callable[[], Awaitable[str]]] = {
            "configuration": self._configuration,
            "failures": self._failures,
            "broker": self._events,
        }
        name = str(self._switcher.current)
        if name in asked:
            self.run_worker(self._fill(self._texts[name], asked[name]), group=name, exclusive=True)

    async def _fill(self, place: Static, ask: Callable[[], Awaitable[str]]) -> None:
        try:
            text = await ask()
        except Fatal as error:
            text = str(error)
        place.update(Text(text))

    async def _read_log(self) -> None:
        try:
            found = await self._link.ask({"request": "config", "endpoint": self._line.id})
            path = await self._reader.open(self._manager, self._line.id, found["user_dir"])
            self._show([f"==> {path}"])
        except Fatal as error:
            self._show([str(error)])

    def _show(self, lines: Sequence[str]) -> None:
        for line in lines:
            self._log.write(Text(line))

    async def _configuration(self) -> str:
        found = await self._link.ask({"request": "config", "endpoint": self._line.id})
        if found["config"] is None:
            return (
                "The endpoint has ended, or was running when the broker started, which doesn't know its configuration."
            )
        if len(found["config"]) > _LONGEST_CONFIG:
            return f"The configuration has more than {_LONGEST_CONFIG >> 10} KiB: see `twinlock render`."
        note = _SIGNED if self._line.row and self._line.row["mode"] == "verified" else ""
        try:
            return note + printable_lines(await in_thread(partial(hide_in_yaml, found["config"])))
        except ValueError as error:
            return f"The configuration can't be shown: {error}"

    async def _failures(self) -> str:
        found = await self._link.ask({"request": "failures", "endpoint": self._line.id})
        return chain.describe(found["failures"])

    async def _events(self) -> str:
        found = await self._link.ask({"request": "events", "endpoint": self._line.id})
        return "\n".join(found["events"][::-1]) or "The broker has logged nothing about it lately."


def _about(line: Line, ended: bool) -> list[str]:
    """Return what the columns have, a few to a line, and what is in the way of its tasks."""
    row = line.row or {}
    short = [column for column in COLUMNS if column.title not in ("USER", "ENDPOINT", "OPTIONS", "JOBS")]
    cells = "  ".join(f"{column.title} {column.cell(line)}" for column in short)
    lines = [f"{line.user} {line.id}" + ("  IT HAS ENDED" if ended else ""), cells]
    lines += [f"options: {row['options']}"] if row.get("options") else []
    lines += [f"jobs: {', '.join(row['jobs'])}"] if row.get("jobs") else []
    return lines + head.conditions([row])
