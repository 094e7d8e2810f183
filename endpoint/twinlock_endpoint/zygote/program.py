"""The interface of a program that can run in a fork of the zygote."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Program(ABC):
    """A program and how to run it."""

    title: str = ""
    """What ps shows."""
    arguments: list[str] = field(default_factory=list)
    """Of the command line, without the program."""
    environment: dict[str, str] = field(default_factory=dict)
    """Variables that replace or join those of the endpoint."""
    stdout: str = ""
    """The file for its standard output; empty for the endpoint's own."""
    stderr: str = ""
    """The file for its standard error; empty for the endpoint's own."""

    @abstractmethod
    def run(self) -> None:
        """Do the program's own work."""
