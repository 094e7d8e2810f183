"""The questions on the screen. No is what Enter answers until something else is chosen."""

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen, ScreenResultType
from textual.widgets import Input, Static

from twinlock_broker.printable import printable

LONGEST_REASON = 500
"""Characters of a reason, as the broker takes it."""


class Dialog(ModalScreen[ScreenResultType]):
    """A box above the table."""


class Choice(Static, can_focus=True):
    """A word that can be chosen."""


class Confirm(Dialog[bool]):
    """A question that is answered by yes or no."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "yes"),
        Binding("n,escape,q", "answer(False)", "no"),
        Binding("left,right,tab,shift+tab", "other", "the other answer"),
        Binding("enter", "answer_chosen", "the chosen answer"),
    ]

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def compose(self) -> ComposeResult:
        """Yield the question and its answers."""
        with Vertical(id="box"):
            yield Static(Text(self._text))
            with Horizontal(id="choices"):
                yield Choice(Text("[ No ]"), id="no")
                yield Choice(Text("[ Yes ]"), id="yes")

    def on_mount(self) -> None:
        """Choose no."""
        self.query_one("#no").focus()

    def action_other(self) -> None:
        """Choose the other answer."""
        self.query_one("#no" if self.query_one("#yes").has_focus else "#yes").focus()

    def action_answer(self, yes: bool) -> None:
        """End with an answer."""
        self.dismiss(yes)

    def action_answer_chosen(self) -> None:
        """End with the answer that is chosen."""
        self.dismiss(self.query_one("#yes").has_focus)


class Reason(Dialog[str | None]):
    """A question for what users are told; the answer is None if nothing is to be done."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "leave")]

    def __init__(self, text: str, otherwise: str) -> None:
        super().__init__()
        self._text = text
        self._otherwise = otherwise

    def compose(self) -> ComposeResult:
        """Yield the question and the place for its answer."""
        with Vertical(id="box"):
            yield Static(Text(f"{self._text} (Enter: go on, Esc: leave; if empty: {self._otherwise})"))
            yield Input(max_length=LONGEST_REASON)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """End with the reason."""
        event.stop()
        self.dismiss(printable(event.value.strip(), LONGEST_REASON) or self._otherwise)

    def action_leave(self) -> None:
        """End without a reason."""
        self.dismiss(None)


class Page(Dialog[None]):
    """A text to read."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,question_mark,enter", "leave", "leave")]

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def compose(self) -> ComposeResult:
        """Yield the text."""
        with VerticalScroll(id="box"):
            yield Static(Text(self._text))

    def action_leave(self) -> None:
        """End."""
        self.dismiss(None)
