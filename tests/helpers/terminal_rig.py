"""A program on a real terminal, which is tmux's: what is on its screen, in words, and keys."""

import contextlib
import os
import secrets
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

LIMIT = 180.0
"""Seconds for what a screen is to show."""

_LEFT = "the program has ended with"


class Terminal:
    """A terminal, by the name of its tmux server."""

    def __init__(self, name: str) -> None:
        self._name = name

    def screen(self) -> list[str]:
        """The lines on the screen."""
        return self._tmux("capture-pane", "-p").splitlines()

    def words(self) -> str:
        """The words on the screen, whatever their lines and boxes."""
        return " ".join(" ".join(self.screen()).replace("|", " ").split())

    def keys(self, *names: str) -> None:
        """Press keys, by tmux's names."""
        self._tmux("send-keys", *names)

    def type(self, text: str) -> None:
        """Press the keys of a text."""
        self._tmux("send-keys", "-l", text)

    def until(self, shown: Callable[[str], bool]) -> str:
        """The words on the screen, as soon as they are as `shown` wants them."""
        end = time.monotonic() + LIMIT
        while not shown(words := self.words()):
            assert time.monotonic() < end, words
            time.sleep(0.1)
        return words

    def exit_code(self) -> int:
        """The program's, when it has ended."""
        return int(self.until(lambda words: _LEFT in words).rpartition(_LEFT)[2].split()[0])

    def _tmux(self, *words: str) -> str:
        argv = ("tmux", "-L", self._name, *words)
        return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stdout


@contextlib.contextmanager
def on_terminal(argv: Sequence[str | Path], size: tuple[int, int], **variables: str) -> Iterator[Terminal]:
    """The program on a terminal of `size`, columns and lines, with these variables besides, while the block runs."""
    name = f"twl-{secrets.token_hex(4)}"
    width, height = map(str, size)
    program = shlex.join(map(str, argv))
    shell = ["env", *(f"{name}={value}" for name, value in variables.items())]
    line = f"{shlex.join(shell)} {program}; echo {_LEFT} $?; exec sleep 600"
    start = ("new-session", "-d", "-x", width, "-y", height, "sh", "-c", line)
    environment = {"PATH": os.environ["PATH"], "HOME": "/", "LC_ALL": "C.UTF-8", "TERM": "xterm"}
    subprocess.run(("tmux", "-L", name, "-f", os.devnull, *start), check=True, timeout=60, env=environment)
    try:
        yield Terminal(name)
    finally:
        subprocess.run(("tmux", "-L", name, "kill-server"), check=False, timeout=60, capture_output=True)
