"""Tables of configuration keys, a row each: what validation, error texts and the documentation are made from."""

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Kind:
    """A type of value: its name for people, and what turns YAML's value into ours (ValueError where it isn't one).

    `unset` are YAML's values that mean the same as leaving the key out.
    """

    name: str
    read: Callable[[Any], Any]
    unset: tuple[Any, ...] = (None,)


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a configuration file. `unit` is empty where the value has none."""

    name: str
    kind: Kind
    default: Any
    unit: str
    meaning: str

    def read(self, value: Any) -> Any:
        """What YAML's value means, the default where it is unset. Raises ValueError where it isn't of the kind."""
        if value in self.kind.unset:
            return self.default
        try:
            return self.kind.read(value)
        except (TypeError, OverflowError) as error:
            raise ValueError(str(error)) from error


def nearest(name: str, known: Iterable[str]) -> str:
    """Half a sentence for an error about an unknown name: the name that was probably meant, else all that there are."""
    names = sorted(known)
    lowered = {candidate.lower(): candidate for candidate in names}
    close = difflib.get_close_matches(name.lower(), lowered, n=1)
    return f"did you mean {lowered[close[0]]!r}?" if close else f"known are: {', '.join(names)}"


def exactly(*types: type) -> Callable[[Any], Any]:
    """What reads values of just these types."""

    def read(value: Any) -> Any:
        if type(value) not in types:
            raise ValueError
        return value

    return read


def _name(value: Any) -> str | None:
    """The peer once wrote `display_name: None` into every config.yaml and has read it as "no name" since."""
    text: str = exactly(str)(value)
    return None if text == "None" else text


_YES, _NO = ("1", "true", "t", "yes", "y", "on"), ("0", "false", "f", "no", "n", "off")


def _flag(value: Any) -> bool:
    """The peer takes words and 0 and 1 too (pydantic's lax mode)."""
    word = str(value).lower()
    if type(value) not in (bool, int, str) or word not in _YES + _NO:
        raise ValueError
    return word in _YES


TEXT = Kind("a text", exactly(str))
NAME = Kind("a text", _name)
FLAG = Kind("true or false", _flag)
