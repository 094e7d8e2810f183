"""The form of a row of the tables, with the check whether the installed Parsl has what it says."""

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from types import CodeType
from typing import Any

_ANY = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@dataclass(frozen=True, slots=True)
class Use:
    """Something in Parsl that Twinlock uses."""

    name: str
    """Module and qualified name, with a colon between them."""
    where: str
    """The module of `htex` that uses it."""
    why: str
    """The purpose."""
    since: str
    """The first release that has it as it is used here, of those looked at: one a month from 2026.1.5 on, and the last
    ones.
    """
    takes: str = ""
    """The parameters that it is called with. It may have others only with a default."""
    names: str = ""
    """The attributes and methods of objects in its code that are used or replaced here."""

    def is_there(self) -> bool:
        """Return whether the Parsl that is installed has it so."""
        module, _, path = self.name.partition(":")
        try:
            found: Any = import_module(module)
            for name in path.split("."):
                found = getattr(found, name)
        except (ImportError, AttributeError):
            return False
        return (not self.takes or _takes(found, self.takes.split())) and (
            not self.names or set(self.names.split()) <= set(_names(inspect.unwrap(found).__code__))
        )


def _takes(called: Any, given: list[str]) -> bool:
    known = {name: one for name, one in inspect.signature(called).parameters.items() if one.kind not in _ANY}
    needed = {name for name, one in known.items() if one.default is one.empty and name != "self"}
    return needed <= set(given) <= known.keys()


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for inner in code.co_consts:  # comprehensions and functions in it
        if isinstance(inner, CodeType):
            yield from _names(inner)
