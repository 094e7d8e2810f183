"""The interface of a program that can run in a fork of the zygote."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Program(ABC):
    """A program and how to run it: `title` is what ps shows; output without a path goes where the endpoint's goes."""

    title: str = ""
    arguments: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    stdout: str = ""
    stderr: str = ""

    @abstractmethod
    def run(self) -> None:
        """Do the program's own work."""
