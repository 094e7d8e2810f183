"""Figures beside their budgets."""

from dataclasses import dataclass, field


@dataclass
class Table:
    """A table, printed row by row; `over` names the rows that exceed their budget, and whatever else isn't allowed."""

    over: list[str] = field(default_factory=list)

    def row(self, name: str, figure: float, unit: str, budget: float | None = None) -> None:
        """Print a row, and note it if it is over its budget."""
        wrong = budget is not None and figure > budget
        allowed = f"of {_text(budget):>10}" if budget is not None else ""
        print(f"{name:<52}{_text(figure):>12} {allowed:<14}{unit}{'   OVER BUDGET' if wrong else ''}", flush=True)
        if wrong:
            self.over.append(name)

    def exit_code(self) -> int:
        """Return 1 after printing what is over its budget, if anything is, else 0."""
        if self.over:
            print(f"over budget, or not allowed: {'; '.join(self.over)}", flush=True)
        return 1 if self.over else 0


def _text(figure: float) -> str:
    return f"{figure:,}" if isinstance(figure, int) else f"{figure:,.2f}"
