"""What the canary found, as plugins of Nagios say it: one line and an exit code, monitoring-plugins.org."""

from dataclasses import dataclass
from enum import IntEnum

from twinlock_broker.printable import printable

_LONGEST = 400
"""Characters of the text; plugins' lines are short."""


class Status(IntEnum):
    """The exit codes of plugins."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of one task."""

    status: Status
    text: str
    """What was found, or the step that failed and why."""
    seconds: float | None = None
    """From the login to the result, or to the failure; None if nothing could be tried."""

    @property
    def succeeded(self) -> bool:
        """Whether the right result came, however late."""
        return self.status in (Status.OK, Status.WARNING)

    def line(self, warning: float, critical: float, remark: str = "") -> str:
        """Return the line. A `|` in it begins the figures, so there is none before. The limits are in seconds."""
        said = printable(f"{self.text}{remark}", _LONGEST).replace("|", "/").strip()
        figures = "" if self.seconds is None else f" | time={self.seconds:.1f}s;{warning:g};{critical:g}"
        return f"CANARY {self.status.name} - {said}{figures}"
