"""What a migration tells the administrator: what it did, and what to do next."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Report:
    """Lines in the order in which they came up."""

    done: list[str] = field(default_factory=list)
    """What was done, or left as it was."""
    next_steps: list[str] = field(default_factory=list)
    """What the administrator has to do, in this order."""
    back: list[str] = field(default_factory=list)
    """How to undo the migration; empty for one that goes back."""

    def __str__(self) -> str:
        steps = [f"  {number}. {text}" for number, text in enumerate(self.next_steps, 1)]
        parts = [*self.done, "", "Next:", *steps]
        if self.back:
            parts += ["", "To go back:", *(f"  {text}" for text in self.back)]
        return "\n".join(parts)
