"""How much totals have grown from one picture to the next."""

from collections.abc import Collection, Hashable


class Increases:
    """The totals as they were seen last, by their names."""

    def __init__(self) -> None:
        self._totals: dict[Hashable, float] = {}

    def of(self, name: Hashable, total: float, unseen: float) -> float:
        """Return by how much the total has grown since it was seen last; `unseen` is what an unknown one was before.

        One that is smaller than before has begun anew, such as that of a process that was started again.
        """
        before = self._totals.get(name, unseen)
        self._totals[name] = total
        return total - before if total >= before else total

    def keep(self, names: Collection[Hashable]) -> None:
        """Forget all others."""
        self._totals = {name: total for name, total in self._totals.items() if name in names}
