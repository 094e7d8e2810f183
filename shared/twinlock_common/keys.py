"""Tables of configuration keys, one row a key, from which validation, error texts and the documentation are made."""

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Kind:
    """A type of value."""

    name: str
    """For people, such as "a port number"."""
    read: Callable[[Any], Any]
    """Turns YAML's value into ours, or raises `ValueError`."""
    unset: tuple[Any, ...] = (None,)
    """YAML's values that mean the same as leaving the key out."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a configuration file."""

    name: str
    """As it stands in the file."""
    kind: Kind
    """The type of its value."""
    default: Any
    """The value of a key that isn't set."""
    unit: str
    """Empty if the value has none."""
    meaning: str
    """What the key is for, as half a sentence."""

    def read(self, value: Any) -> Any:
        """Return what YAML's value means, or the default if it is unset. Raise `ValueError` if it isn't of the kind."""
        if value in self.kind.unset:
            return self.default
        try:
            return self.kind.read(value)
        except (TypeError, OverflowError) as error:
            raise ValueError(str(error)) from error


def nearest(name: str, known: Iterable[str]) -> str:
    """Return half a sentence for an error about an unknown name: the name probably meant, else all known names."""
    names = sorted(known)
    lowered = {candidate.lower(): candidate for candidate in names}
    close = difflib.get_close_matches(name.lower(), lowered, n=1)
    return f"did you mean {lowered[close[0]]!r}?" if close else f"known are: {', '.join(names)}"


def exactly(*types: type) -> Callable[[Any], Any]:
    """Return a function that reads values of just these types."""

    def read(value: Any) -> Any:
        if type(value) not in types:
            raise ValueError
        return value

    return read


def _name(value: Any) -> str | None:
    """Read a name; the text "None" stands for no name.

    The agent once wrote `display_name: None` into every config.yaml and has read it as "no name" since.
    """
    text: str = exactly(str)(value)
    return None if text == "None" else text


_YES, _NO = ("1", "true", "t", "yes", "y", "on"), ("0", "false", "f", "no", "n", "off")


def _flag(value: Any) -> bool:
    """Read a boolean. As with the agent, words and 0 and 1 count too (pydantic's lax mode)."""
    word = str(value).lower()
    if type(value) not in (bool, int, str) or word not in _YES + _NO:
        raise ValueError
    return word in _YES


TEXT = Kind("a text", exactly(str))
NAME = Kind("a text", _name)
FLAG = Kind("true or false", _flag)
