"""What is fuzzed."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from mutations import Format


class Target(NamedTuple):
    """Something that decodes."""

    run: Callable[[bytes], object]
    """Decodes, and raises where a promise is broken."""
    seeds: list[bytes]
    """Examples."""
    form: Format
    """How the examples say what they say."""
    words: Sequence[object] = ()
    """What may stand in them."""


class Group(NamedTuple):
    """Targets that have half of the time together."""

    packages: tuple[str, ...]
    """What is executed, and watched by the fuzzer."""
    targets: Mapping[str, Callable[[], Target]]
    """What makes the targets, by their names: it imports the packages."""
