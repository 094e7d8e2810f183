"""Values that must never be printed."""

from typing import Generic, TypeVar

T = TypeVar("T")


class Secret(Generic[T]):
    """A credential. Nothing that formats it, logs it or pickles it can show it; only `reveal` gives it out."""

    __slots__ = ("_value",)

    def __init__(self, value: T) -> None:
        self._value = value

    def reveal(self) -> T:
        """Return the value itself, for the one call that needs it."""
        return self._value

    def __repr__(self) -> str:
        return "<secret>"

    def __reduce__(self) -> str:
        raise TypeError("a secret can't be pickled")
